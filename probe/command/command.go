// Package command checks a service by running a program of the user's.
package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/printable"
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
		return func(ctx context.Context, dialer probe.Dialer) error { return check(ctx, dialer, argv) }, nil
	},
}

func check(ctx context.Context, dialer probe.Dialer, argv []string) error {
	listener, err := openListener(ctx, dialer)
	if err != nil {
		return err
	}
	defer listener.close()
	host, port := listener.addr()
	placeholders := strings.NewReplacer("{host}", host, "{port}", port, "{addr}", net.JoinHostPort(host, port))
	program := process.Command{Argv: slices.Clone(argv), Env: os.Environ()}
	if processContext, ok := dialer.(probe.ProcessContext); ok {
		program.Dir, program.Env = processContext.Dir(), processContext.Environ()
	}
	for i, arg := range program.Argv {
		program.Argv[i] = placeholders.Replace(arg)
	}
	program.Env = append(slices.Clip(program.Env), "LOCALPORT_CHECK_HOST="+host, "LOCALPORT_CHECK_PORT="+port)
	output := &lastLines{}
	program.OnLines = output.addLines
	if err := runProgram(ctx, program, output); err != nil {
		return listener.explainError(err)
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
		failure := process.ClassifyStartError(err, run, "")
		return &probe.Failure{Reason: failure.Reason, Hint: cmp.Or(failure.Hint, "check health_check.command")}
	}
	select {
	case <-program.Done():
	case <-ctx.Done():
		program.Stop(stopGracePeriod)
		if program.WasStopped() {
			return fmt.Errorf("run %s: %w", name, ctx.Err())
		}
	}
	if !program.HasSucceeded() {
		return &probe.Failure{Reason: strings.Join(append([]string{name, program.ExitStatus()}, output.errorLine()...), ": ")}
	}
	return nil
}

// lastLines holds the last line that a program printed on each of its outputs.
type lastLines struct{ stdout, stderr string }

func (l *lastLines) addLines(from process.Stream, lines []byte) {
	const maxLength = 200 // characters in a message
	lines = bytes.TrimSpace(lines)
	line := printable.Truncate(string(bytes.TrimSpace(lines[bytes.LastIndexByte(lines, '\n')+1:])), maxLength)
	if line == "" {
		return
	}
	if from == process.Stderr {
		l.stderr = line
		return
	}
	l.stdout = line
}

// errorLine returns the last line on stderr, else that on stdout. Call it only after the program has ended.
func (l *lastLines) errorLine() []string {
	for _, line := range []string{l.stderr, l.stdout} {
		if line != "" {
			return []string{line}
		}
	}
	return nil
}
