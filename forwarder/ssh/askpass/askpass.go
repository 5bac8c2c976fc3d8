// Package askpass brings ssh's questions, for passwords, passphrases, codes and host keys, to the user's terminal, and the
// answers back. An ssh that the supervisor starts has no terminal; it runs a program for every question. That program is
// this one, which hands the question to whoever listens at a private socket: the answers go from there to ssh and nowhere
// else.
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

// program is the name by which ssh calls us. It cannot pass arguments of ours.
const program = "localport-askpass"

// variable names the socket to the program.
const variable = "LOCALPORT_ASK"

// Question is what ssh wants to know.
type Question struct {
	Text string `json:"text"`
	Kind string `json:"kind,omitempty"` // "confirm": yes or no; "none": it only tells something; else an answer
}

// Open reports whether the answer is no secret and may be seen.
func (q Question) Open() bool { return strings.Contains(q.Text, "(yes/no") }

type answer struct {
	Text  string `json:"text"`
	Given bool   `json:"given"`
}

// Environment is the environment of an ssh whose questions go to the socket; with an empty socket it asks nobody, and
// neither does the ssh that it may start for a jump host. What it needs in dir is to stay until it has logged in.
func Environment(env []string, dir, socket string) ([]string, error) {
	env = slices.Clone(env)
	if socket == "" {
		return append(env, "SSH_ASKPASS_REQUIRE=never"), nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, program)
	if err := os.Symlink(self, name); err != nil {
		return nil, err
	}
	env = append(env, "SSH_ASKPASS="+name, "SSH_ASKPASS_REQUIRE=force", variable+"="+socket)
	if process.Getenv(env, "DISPLAY") == "" {
		env = append(env, "DISPLAY=:0") // an ssh from before 8.4 asks no other way
	}
	return env, nil
}

// Main is to be called first by every program that starts an ssh with such an environment. If the process was started by
// ssh to ask a question, it does, and the process ends.
func Main() {
	if filepath.Base(os.Args[0]) != program {
		return
	}
	text, given, err := pass(os.Getenv(variable), Question{Text: strings.Join(os.Args[1:], " "), Kind: os.Getenv("SSH_ASKPASS_PROMPT")})
	if err != nil {
		fmt.Fprintln(os.Stderr, "localport: ask the user:", err)
	}
	if err != nil || !given {
		os.Exit(1)
	}
	fmt.Println(text)
	os.Exit(0)
}

// pass hands a question on and returns the answer.
func pass(socket string, q Question) (text string, given bool, err error) {
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

// Listener takes questions.
type Listener struct {
	socket *net.UnixListener
	dir    string
	wg     sync.WaitGroup
	cancel context.CancelFunc
}

// Listen takes questions at a private socket within a directory, one at a time, and has put answer them; false is no answer.
// The context of a question ends when ssh does not want to know any more. Close is to be called; what is left in the directory
// where it cannot be is for whoever removes that.
func Listen(ctx context.Context, in string, put func(context.Context, Question) (string, bool)) (*Listener, error) {
	dir, err := os.MkdirTemp(in, "ask")
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Listener{socket: socket, dir: dir, cancel: cancel}
	l.wg.Go(func() { l.serve(ctx, put) })
	return l, nil
}

// Socket is where questions are taken.
func (l *Listener) Socket() string { return l.socket.Addr().String() }

// Close takes no more questions; one that is being put has no answer.
func (l *Listener) Close() error {
	l.cancel()
	l.socket.Close()
	l.wg.Wait()
	return os.RemoveAll(l.dir)
}

func (l *Listener) serve(ctx context.Context, put func(context.Context, Question) (string, bool)) {
	for {
		conn, err := l.socket.Accept()
		if err != nil {
			return
		}
		one(ctx, conn, put)
	}
}

func one(ctx context.Context, conn net.Conn, put func(context.Context, Question) (string, bool)) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var q Question
	decoder := json.NewDecoder(conn)
	if err := decoder.Decode(&q); err != nil {
		return
	}
	left := make(chan struct{})
	go func() { // nothing more comes but the end
		defer close(left)
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	text, given := put(ctx, q)
	_ = json.NewEncoder(conn).Encode(answer{Text: text, Given: given})
	conn.Close()
	<-left
}
