// Package askpass forwards ssh's questions (passwords, passphrases, codes, host keys) to the user's terminal and the answers
// back. An ssh without a terminal runs SSH_ASKPASS for every question (ssh(1)): here that is this program itself, which sends the
// question to a private socket. Answers go from there to ssh and nowhere else.
package askpass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder/process"
)

// programName is the name under which ssh runs this program. SSH_ASKPASS cannot hold arguments.
const programName = "localport-askpass"

// socketVariable holds the path of the socket.
const socketVariable = "LOCALPORT_ASK"

// Question is one question of ssh.
type Question struct {
	Text string `json:"text"`
	Kind string `json:"kind,omitempty"` // of SSH_ASKPASS_PROMPT: "confirm" is yes or no, "none" a notice, "" a question
}

// IsPublic reports whether the answer may be echoed: it is a yes or no, not a secret.
func (q Question) IsPublic() bool { return strings.Contains(q.Text, "(yes/no") }

type answer struct {
	Text  string `json:"text"`
	Given bool   `json:"given"`
}

// Environment returns env for an ssh whose questions go to the socket. With an empty socket neither that ssh nor the one that it
// starts for a jump host asks anything. It creates a link in dir, which must exist until ssh has logged in.
func Environment(env []string, dir, socket string) ([]string, error) {
	env = slices.Clone(env)
	if socket == "" {
		return append(env, "SSH_ASKPASS_REQUIRE=never"), nil
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	link := filepath.Join(dir, programName)
	if err := os.Symlink(executable, link); err != nil {
		return nil, err
	}
	env = append(env, "SSH_ASKPASS="+link, "SSH_ASKPASS_REQUIRE=force", socketVariable+"="+socket)
	if process.Getenv(env, "DISPLAY") == "" {
		env = append(env, "DISPLAY=:0") // OpenSSH before 8.4 ignores SSH_ASKPASS without it
	}
	return env, nil
}

// Main must be called first by every program that uses Environment. In a process that ssh started to ask a question it asks it and
// exits.
func Main() {
	if filepath.Base(os.Args[0]) != programName {
		return
	}
	text, given, err := forwardQuestion(os.Getenv(socketVariable), Question{Text: strings.Join(os.Args[1:], " "), Kind: os.Getenv("SSH_ASKPASS_PROMPT")})
	if err != nil {
		fmt.Fprintln(os.Stderr, "localport: forward ssh's question:", err)
	}
	if err != nil || !given {
		os.Exit(1)
	}
	fmt.Println(text)
	os.Exit(0)
}

// forwardQuestion sends a question to the socket and returns the answer.
func forwardQuestion(socket string, q Question) (text string, given bool, err error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return "", false, err
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	return a.Text, a.Given, nil
}

// Listener receives questions.
type Listener struct {
	listener *net.UnixListener
	dir      string
	wg       sync.WaitGroup
	cancel   context.CancelFunc
}

// Listen receives questions at a new socket below parentDir and calls onQuestion for one at a time; false means no answer. The
// context of a question ends when ssh no longer waits for the answer. The caller calls Close, or removes parentDir.
func Listen(ctx context.Context, parentDir string, onQuestion func(context.Context, Question) (string, bool)) (*Listener, error) {
	dir, err := os.MkdirTemp(parentDir, "ask")
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Listener{listener: socket, dir: dir, cancel: cancel}
	l.wg.Go(func() { l.serve(ctx, onQuestion) })
	return l, nil
}

// Socket returns the path of the socket.
func (l *Listener) Socket() string { return l.listener.Addr().String() }

// Close stops receiving, cancels the question that is being asked, and removes the socket.
func (l *Listener) Close() error {
	l.cancel()
	l.listener.Close()
	l.wg.Wait()
	return os.RemoveAll(l.dir)
}

func (l *Listener) serve(ctx context.Context, onQuestion func(context.Context, Question) (string, bool)) {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return
		}
		serveConn(ctx, conn, onQuestion)
	}
}

func serveConn(ctx context.Context, conn net.Conn, onQuestion func(context.Context, Question) (string, bool)) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var q Question
	decoder := json.NewDecoder(conn)
	if err := decoder.Decode(&q); err != nil {
		return
	}
	disconnectedCh := make(chan struct{})
	go func() { // the asking process sends nothing more: a read ends when it exits
		defer close(disconnectedCh)
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	text, given := onQuestion(ctx, q)
	_ = json.NewEncoder(conn).Encode(answer{Text: text, Given: given})
	conn.Close()
	<-disconnectedCh
}
