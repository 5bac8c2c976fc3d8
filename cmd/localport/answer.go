package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
)

// loginWait is how long a login may take: a person has to find a token, or to read a fingerprint.
const loginWait = 3 * time.Minute

// askFor has the supervisor's ssh log in, and puts what it asks to the user.
func (l *login) askFor(ctx context.Context, a *app, client *control.Client, supervisor *control.SupervisorStatus) error {
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("log in to %s: ssh asks on a terminal, and there is none: %w", l.host, err)
	}
	defer terminal.Close()
	fmt.Fprintf(a.err, "localport: the login to %s, for %s\n", l.host, strings.Join(l.names, ", "))
	// The supervisor's own directory goes with it, whatever becomes of us.
	private := filepath.Join(filepath.Dir(supervisor.Socket), supervisor.Run)
	questions, err := askpass.Listen(ctx, private, func(ctx context.Context, q askpass.Question) (string, bool) {
		text, err := put(ctx, terminal, q)
		return text, err == nil
	})
	if err != nil {
		return fmt.Errorf("listen for what ssh asks: %w", err)
	}
	defer func() { _ = questions.Close() }()
	if err := client.Login(ctx, control.LoginRequest{Names: l.names, Ask: questions.Socket()}); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, loginWait)
	defer cancel()
	if _, err := client.Wait(waiting, l.names); err != nil && ctx.Err() != nil {
		return fmt.Errorf("the login to %s was given up", l.host)
	}
	return nil // how it came out is shown with everything else
}

// errNo says that there is no answer.
var errNo = errors.New("no answer")

// put puts a question on the terminal, whose echo is off for what is secret, until there is an answer or ctx ends.
func put(ctx context.Context, terminal *os.File, q askpass.Question) (string, error) {
	if q.Kind == "none" { // as of a security key that is to be touched
		fmt.Fprintln(terminal, q.Text)
		<-ctx.Done()
		return "", errNo
	}
	fmt.Fprint(terminal, q.Text)
	if q.Kind == "confirm" {
		fmt.Fprint(terminal, " (yes/no) ")
	}
	before, err := term.GetState(int(terminal.Fd())) //nolint:gosec // it is a descriptor
	if err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // which goes on after a question that was taken back, until a line or the process ends
		if q.Open() || q.Kind == "confirm" {
			text, err := line(terminal)
			answers <- answer{text, err}
			return
		}
		text, err := term.ReadPassword(int(terminal.Fd())) //nolint:gosec // it is a descriptor
		fmt.Fprintln(terminal)
		answers <- answer{string(text), err}
	}()
	select {
	case a := <-answers:
		if q.Kind == "confirm" && a.text != "yes" {
			return "", errNo
		}
		return a.text, a.err
	case <-ctx.Done():
		_ = term.Restore(int(terminal.Fd()), before) //nolint:gosec // it is a descriptor
		fmt.Fprintln(terminal)
		return "", ctx.Err()
	}
}

// line reads a line from the terminal.
func line(terminal io.Reader) (string, error) {
	text, err := bufio.NewReaderSize(terminal, 64).ReadString('\n')
	return strings.TrimRight(text, "\r\n"), err
}
