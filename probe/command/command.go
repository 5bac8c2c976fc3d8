// Package command checks a service by running a program of the user's.
package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "command": healthy if the program exits with 0. {host}, {port} and {addr} in its arguments
// are an address that forwards through the tunnel, as are LOCALPORT_CHECK_HOST and LOCALPORT_CHECK_PORT in its environment. It runs in the
// project's root with the environment of the project's children, in a process group that is killed when the check ends.
var Type = probe.Type{
	CheckType: project.CheckType{Name: "command", Keys: []project.Key{{
		Name: "command", Type: project.TypeTextList, Required: true,
		Example: `, for example ["curl", "-fsS", "http://{addr}/healthz"]`,
	}}},
	New: func(s project.Settings) (probe.Check, error) {
		argv := s.TextList("command")
		return func(ctx context.Context, path probe.Dialer) error { return check(ctx, path, argv) }, nil
	},
}

func check(ctx context.Context, path probe.Dialer, argv []string) error {
	b, err := openListener(ctx, path)
	if err != nil {
		return err
	}
	defer b.close()
	host, port := b.addr()
	fill := strings.NewReplacer("{host}", host, "{port}", port, "{addr}", net.JoinHostPort(host, port))
	run := process.Command{Argv: slices.Clone(argv), Env: os.Environ()}
	if processContext, ok := path.(probe.ProcessContext); ok {
		run.Dir, run.Env = processContext.Dir(), processContext.Environ()
	}
	for i, arg := range run.Argv {
		run.Argv[i] = fill.Replace(arg)
	}
	run.Env = append(slices.Clip(run.Env), "LOCALPORT_CHECK_HOST="+host, "LOCALPORT_CHECK_PORT="+port)
	output := &lastLines{}
	run.OnLine = output.addLine
	if err := runProgram(ctx, run, output); err != nil {
		return b.explainError(err)
	}
	return nil
}

// stopGracePeriod is how long a program may take to end after SIGTERM.
const stopGracePeriod = 100 * time.Millisecond

// runProgram runs the program. No process of its group is left when it returns.
func runProgram(ctx context.Context, run process.Command, output *lastLines) error {
	name := filepath.Base(run.Argv[0])
	if ctx.Err() != nil {
		return ctx.Err()
	}
	program, err := process.Start(run)
	if missing, ok := errors.AsType[*process.NotFoundError](err); ok {
		return &probe.Failure{Reason: missing.Error(), Hint: "check health_check.command and the PATH"}
	}
	if err != nil {
		return &probe.Failure{Reason: err.Error(), Hint: "check health_check.command"}
	}
	select {
	case <-program.Done():
	case <-ctx.Done():
		program.Stop(stopGracePeriod)
		if program.WasStopped() {
			return fmt.Errorf("run %s: %w", name, ctx.Err())
		}
	}
	if status := program.ExitStatus(); status != "exit status 0" {
		return &probe.Failure{Reason: strings.Join(append([]string{name, status}, output.errorLine()...), ": ")}
	}
	return nil
}

// lastLines holds the last line that a program printed on each of its outputs.
type lastLines struct{ out, err string }

func (w *lastLines) addLine(from process.Stream, line string) {
	const most = 200 // characters in a message
	if line = strings.TrimSpace(line); line == "" {
		return
	}
	if runes := []rune(line); len(runes) > most {
		line = string(runes[:most]) + "…"
	}
	if from == process.Stderr {
		w.err = line
		return
	}
	w.out = line
}

// errorLine returns the last line on stderr, else that on stdout. Call it only after the program has ended.
func (w *lastLines) errorLine() []string {
	for _, line := range []string{w.err, w.out} {
		if line != "" {
			return []string{line}
		}
	}
	return nil
}
