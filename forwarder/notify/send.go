package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/process"
)

func (s Settings) wantsEvent(event string) bool {
	return (len(s.Command) > 0 || s.Desktop) && slices.Contains(s.Events, event)
}

// send runs the configured command and the desktop's program, and returns when both have ended.
func send(ctx context.Context, s Settings, n Notification) error {
	ctx, cancel := context.WithTimeout(ctx, CommandTimeout)
	defer cancel()
	env := append(slices.Clone(s.Env), n.environ()...)
	var errs []error
	for _, argv := range [][]string{n.expandArgs(s.Command), s.desktopCommand(runtime.GOOS, n)} {
		if len(argv) > 0 {
			errs = append(errs, runProgram(ctx, process.Command{Argv: argv, Dir: s.Dir, Env: env}))
		}
	}
	return errors.Join(errs...)
}

// runProgram runs a program until it exits. When ctx ends, it ends the program's process group.
func runProgram(ctx context.Context, c process.Command) error {
	child, err := process.Start(c)
	if err != nil {
		return err
	}
	select {
	case <-child.Done():
	case <-ctx.Done():
		child.Stop(time.Second)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%s did not end within %v", c.Argv[0], CommandTimeout)
		}
		return ctx.Err()
	}
	if !child.HasSucceeded() {
		return errors.New(strings.Join(append([]string{c.Argv[0], child.ExitStatus()}, child.LastLines()...), ": "))
	}
	return nil
}

// fields returns the names of the notification's fields, as in templates, and their values.
func (n Notification) fields() [][2]string {
	return [][2]string{
		{"event", n.Event}, {"service", n.Service}, {"project", n.Project}, {"state", n.State}, {"reason", n.Reason},
	}
}

// environ returns LOCALPORT_EVENT and the others. NULs are removed: with one in it, no program can be started.
func (n Notification) environ() []string {
	var env []string
	for _, field := range n.fields() {
		env = append(env, "LOCALPORT_"+strings.ToUpper(field[0])+"="+strings.ReplaceAll(field[1], "\x00", ""))
	}
	return env
}

// expandArgs replaces {event} and the others by the notification's fields. A placeholder within a field is not replaced.
func (n Notification) expandArgs(argv []string) []string {
	var pairs []string
	for _, field := range n.fields() {
		pairs = append(pairs, "{"+field[0]+"}", strings.ReplaceAll(field[1], "\x00", ""))
	}
	replacer := strings.NewReplacer(pairs...)
	expanded := make([]string, len(argv))
	for i, arg := range argv {
		expanded[i] = replacer.Replace(arg)
	}
	return expanded
}
