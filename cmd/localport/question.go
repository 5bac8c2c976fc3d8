package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
)

// loginTimeout is how long a login may take: a person has to find a token, or to read a fingerprint.
const loginTimeout = 3 * time.Minute

// runWithQuestions lets the supervisor's ssh log in, and asks its questions on the user's terminal.
func (l *loginGroup) runWithQuestions(ctx context.Context, a *app, p commandProject, running *client.Client, supervisor *api.SupervisorStatus) error {
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("log in to %s: ssh has questions and needs a terminal: %w", l.Name, err)
	}
	defer terminal.Close()
	output.Info(a.err, "logging in to %s for %s", l.Name, strings.Join(l.names, ", "))
	if l.Warning != "" {
		output.Warn(a.err, l.Warning)
	}
	// The supervisor removes its run directory when it ends, even if this process is killed.
	runDir := filepath.Join(filepath.Dir(supervisor.Socket), supervisor.Run)
	isAnswered := make(map[string]bool)
	questions, err := askpass.Listen(ctx, runDir, func(ctx context.Context, q askpass.Question) (string, bool) {
		if isAnswered[q.Text] { // ssh itself says so in its log only
			fmt.Fprintln(terminal, "The answer was not accepted, try again.")
		}
		text, err := askUser(ctx, terminal, q)
		isAnswered[q.Text] = err == nil && q.Kind == ""
		return text, err == nil
	})
	if err != nil {
		return fmt.Errorf("listen for the questions of ssh: %w", err)
	}
	defer func() { _ = questions.Close() }()
	err = running.Login(ctx, api.LoginRequest{Names: l.names, Ask: questions.Socket(), Environment: client.ShellEnvironment()})
	if err == nil {
		waitCtx, cancel := context.WithTimeout(ctx, loginTimeout)
		defer cancel()
		_, _ = p.waitSettled(waitCtx, *running, l.names, func(api.Status) {}) // the caller prints the result of all logins
	}
	if ctx.Err() != nil { // the services may be settled already: ssh ends with its question
		return fmt.Errorf("the login to %s was interrupted", l.Name)
	}
	return err
}

// errNoAnswer is returned for a question that the user has not answered.
var errNoAnswer = errors.New("no answer")

// askUser asks a question on the terminal and returns the answer; errNoAnswer if the user refuses, or the error of ctx when it ends
// first. For a secret, the echo is turned off before the question is printed: the answer may be pasted at once.
func askUser(ctx context.Context, terminal *os.File, q askpass.Question) (string, error) {
	if q.Kind == "none" { // a request without an answer, such as to touch a security key
		fmt.Fprintln(terminal, output.EscapeText(q.Text))
		<-ctx.Done()
		return "", errNoAnswer
	}
	if !q.IsPublic() && q.Kind != "confirm" {
		restore, err := disableEcho(terminal)
		if err != nil {
			return "", err
		}
		defer func() { restore(); fmt.Fprintln(terminal) }()
	}
	fmt.Fprint(terminal, output.EscapeText(q.Text))
	if q.Kind == "confirm" {
		fmt.Fprint(terminal, " (yes/no) ")
	}
	text, err := readAnswer(ctx, terminal)
	switch {
	case err != nil:
		return "", err
	case q.Kind == "confirm" && text != "yes":
		return "", errNoAnswer
	}
	return text, nil
}

// readAnswer reads a line from the terminal. When ctx ends first, it cancels the read, so that the next line answers the next question.
// On systems where a read of a terminal cannot be cancelled, the read ends with the next line or with the process.
func readAnswer(ctx context.Context, terminal *os.File) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answerCh := make(chan answer, 1)
	go func() {
		text, err := bufio.NewReaderSize(terminal, 64).ReadString('\n')
		answerCh <- answer{strings.TrimRight(text, "\r\n"), err}
	}()
	select {
	case a := <-answerCh:
		return a.text, a.err
	case <-ctx.Done():
		if terminal.SetReadDeadline(time.Unix(1, 0)) == nil {
			<-answerCh
			_ = terminal.SetReadDeadline(time.Time{})
		}
		return "", ctx.Err()
	}
}

// disableEcho turns off the echo of a terminal and discards what was typed ahead, as ssh does.
func disableEcho(terminal *os.File) (restore func(), err error) {
	raw, err := terminal.SyscallConn() // Fd would make reads blocking, which cannot be cancelled
	if err != nil {
		return nil, err
	}
	var before *unix.Termios
	controlErr := raw.Control(func(fd uintptr) {
		if before, err = unix.IoctlGetTermios(int(fd), getTermios); err != nil {
			return
		}
		silent := *before
		silent.Lflag &^= unix.ECHO
		silent.Lflag |= unix.ICANON | unix.ISIG
		silent.Iflag |= unix.ICRNL
		err = unix.IoctlSetTermios(int(fd), flushAndSetTermios, &silent)
	})
	if err := errors.Join(controlErr, os.NewSyscallError("turn the echo off", err)); err != nil {
		return nil, err
	}
	return func() {
		_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetTermios(int(fd), setTermios, before) })
	}, nil
}
