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

func (s Settings) wants(event string) bool {
	return (len(s.Command) > 0 || s.Desktop) && slices.Contains(s.On, event)
}

// tell tells in every way asked for, and returns when the programs have ended.
func tell(ctx context.Context, s Settings, n Notice) error {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	env := append(slices.Clone(s.Env), n.environment()...)
	var errs []error
	for _, argv := range [][]string{n.fill(s.Command), s.desktop(runtime.GOOS, n)} {
		if len(argv) > 0 {
			errs = append(errs, run(ctx, process.Command{Argv: argv, Dir: s.Dir, Env: env}))
		}
	}
	return errors.Join(errs...)
}

// run runs a program to its end; when ctx ends, its whole process group is.
func run(ctx context.Context, c process.Command) error {
	program, err := process.Start(c)
	if err != nil {
		return err
	}
	select {
	case <-program.Done():
	case <-ctx.Done():
		program.Stop(time.Second)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%s did not end within %v", c.Argv[0], Limit)
		}
		return ctx.Err()
	}
	if status := program.Status(); status != "exit status 0" {
		return errors.New(strings.Join(append([]string{c.Argv[0] + ": " + status}, program.LastWords()...), ": "))
	}
	return nil
}

// fields are the notice's parts by name.
func (n Notice) fields() [][2]string {
	return [][2]string{
		{"event", n.Event}, {"service", n.Service}, {"project", n.Project}, {"state", n.State}, {"reason", n.Reason},
	}
}

// environment has LOCALPORT_EVENT and the others. No value can hold a NUL, which would end the program before it began.
func (n Notice) environment() []string {
	var env []string
	for _, field := range n.fields() {
		env = append(env, "LOCALPORT_"+strings.ToUpper(field[0])+"="+strings.ReplaceAll(field[1], "\x00", ""))
	}
	return env
}

// fill puts the notice's parts in place of {event} and the others. What a part itself holds is not looked at again.
func (n Notice) fill(argv []string) []string {
	var pairs []string
	for _, field := range n.fields() {
		pairs = append(pairs, "{"+field[0]+"}", strings.ReplaceAll(field[1], "\x00", ""))
	}
	replacer := strings.NewReplacer(pairs...)
	filled := make([]string, len(argv))
	for i, arg := range argv {
		filled[i] = replacer.Replace(arg)
	}
	return filled
}
