// Package command checks a service by a program of the user's.
package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// Kind is the check of type "command": well when the program exits with 0. {host}, {port} and {addr} in its arguments
// lead through the tunnel, as do LOCALPORT_CHECK_HOST and LOCALPORT_CHECK_PORT in its environment. It runs in the
// project's root with the environment of the project's children, in a process group that ends with the check.
var Kind = probe.Kind{
	CheckType: project.CheckType{Name: "command", Keys: []project.Key{{
		Name: "command", Is: project.Texts, Required: true,
		Example: `, as in ["curl", "-fsS", "http://{addr}/healthz"]`,
	}}},
	New: func(s project.Settings) (probe.Check, error) {
		argv := s.Texts("command")
		return func(ctx context.Context, path probe.Path) error { return check(ctx, path, argv) }, nil
	},
}

func check(ctx context.Context, path probe.Path, argv []string) error {
	b, err := open(ctx, path)
	if err != nil {
		return err
	}
	defer b.close()
	host, port := b.addr()
	fill := strings.NewReplacer("{host}", host, "{port}", port, "{addr}", net.JoinHostPort(host, port))
	filled := make([]string, len(argv))
	for i, arg := range argv {
		filled[i] = fill.Replace(arg)
	}
	said := &lastLine{}
	cmd := command(ctx, path, filled)
	cmd.Env = append(cmd.Env, "LOCALPORT_CHECK_HOST="+host, "LOCALPORT_CHECK_PORT="+port)
	cmd.Stdout, cmd.Stderr = said, said
	return judge(ctx, argv[0], run(cmd), said.text())
}

// grace is how long output that a child of the program holds open is waited for.
const grace = 100 * time.Millisecond

func command(ctx context.Context, path probe.Path, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = os.Environ()
	if place, ok := path.(probe.Place); ok {
		cmd.Dir, cmd.Env = place.Dir(), place.Environ()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	return cmd
}

// run runs the program; nothing of its group is left when it returns.
func run(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it is done, and what it left behind holds its output no more
	}
	return err
}

func judge(ctx context.Context, name string, err error, said string) error {
	var exited *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", name, ctx.Err())
	case errors.As(err, &exited):
		reason := fmt.Sprintf("%s: %s", name, exited.ProcessState)
		if said != "" {
			reason += ": " + said
		}
		return &probe.Failure{Reason: reason}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return &probe.Failure{Reason: fmt.Sprintf("run %s: there is no such program", name), Hint: "check health_check.command and the PATH"}
	}
	return &probe.Failure{Reason: fmt.Sprintf("run %s: %v", name, err)}
}

// lastLine keeps the last line that holds something, of all that is written to it.
type lastLine struct{ whole, part string }

func (l *lastLine) Write(p []byte) (int, error) {
	const most = 4096 // of one line
	for line := range strings.Lines(string(p)) {
		l.part += line
		if len(l.part) > most {
			l.part = l.part[:most]
		}
		if strings.HasSuffix(line, "\n") {
			l.keep()
		}
	}
	return len(p), nil
}

func (l *lastLine) keep() {
	if text := strings.TrimSpace(l.part); text != "" {
		l.whole = text
	}
	l.part = ""
}

func (l *lastLine) text() string {
	l.keep()
	if len(l.whole) > 200 {
		return strconv.QuoteToGraphic(l.whole[:200]) + "…"
	}
	return l.whole
}
