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

// send tells in every way asked for, and returns when the programs have ended.
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

// runProgram runs a program to its end; when ctx ends, its whole process group is.
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
	if status := child.ExitStatus(); status != "exit status 0" {
		return errors.New(strings.Join(append([]string{c.Argv[0] + ": " + status}, child.LastLines()...), ": "))
	}
	return nil
}

// fields are the notice's parts by name.
func (n Notification) fields() [][2]string {
	return [][2]string{
		{"event", n.Event}, {"service", n.Service}, {"project", n.Project}, {"state", n.State}, {"reason", n.Reason},
	}
}

// environ has LOCALPORT_EVENT and the others. No value can hold a NUL, which would end the program before it began.
func (n Notification) environ() []string {
	var env []string
	for _, field := range n.fields() {
		env = append(env, "LOCALPORT_"+strings.ToUpper(field[0])+"="+strings.ReplaceAll(field[1], "\x00", ""))
	}
	return env
}

// expandArgs puts the notice's parts in place of {event} and the others. What a part itself holds is not looked at again.
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
