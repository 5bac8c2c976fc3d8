package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/top"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/eventlog"
)

type topCmd struct{}

// Help is the text below the usage.
func (topCmd) Help() string {
	return `The key "?" lists all keys.

Example: localport top

Exit codes: 0 ended by a key or signal; 1 there is no terminal, or the supervisor does not answer; 2 wrong usage; 3 the config of the stopped project is invalid.`
}

// Run shows the project full screen. It takes no lease: viewing does not keep the project running.
func (topCmd) Run(ctx context.Context, a *app, p commandProject) error {
	out, ok := a.out.File().(*os.File)
	if !ok || !isTerminal(out) || !isTerminal(os.Stdin) {
		return output.WithHint(errors.New("top needs a terminal for its input and output"), `in a pipe or a script, use "localport status -w" or "localport status --json"`)
	}
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return output.WithHint(errors.New("top cannot draw on this terminal: TERM is "+shownTerm(term)), "localport status -w")
	}
	source := &topSource{p}
	status, err := source.Status(ctx)
	if err != nil {
		return err
	}
	options := top.Options{DescribeLeases: describeLeases, ASCII: !usesUTF8(os.Getenv), NoColor: !a.out.IsColored()}
	err = top.Run(source, status, options, os.Stdin, out)
	if panicked, ok := errors.AsType[*top.PanicError](err); ok {
		_, _ = a.err.Write(panicked.Stack)
	}
	return err
}

func shownTerm(term string) string {
	if term == "" {
		return "not set"
	}
	return term
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), getTermios)
	return err == nil
}

// usesUTF8 reports whether the locale's characters are UTF-8 (locale(7): the first of these variables that is set counts). Without a locale they are taken
// to be: few terminals show anything else today.
func usesUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(getenv(name)); value != "" {
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return true
}

// topSource is the project as top sees it.
type topSource struct{ commandProject }

// Status implements top.Source.
func (s *topSource) Status(ctx context.Context) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, client.CommandTimeout())
	defer cancel()
	status, err := s.queryOrReadStatus(ctx)
	if err == nil {
		status.Draining = s.Draining()
	}
	return status, err
}

// Watch implements top.Source.
func (s *topSource) Watch(ctx context.Context, on func(api.Status)) {
	findCtx, cancel := context.WithTimeout(ctx, client.CommandTimeout())
	defer cancel()
	running, _, err := s.FindSupervisor(findCtx)
	if err != nil || running == nil {
		return
	}
	_ = running.Watch(ctx, func(status api.Status) bool {
		status.Project, status.Config = s.Root, s.Config // exact bytes, which JSON does not have
		on(status)
		return ctx.Err() == nil
	})
}

// How much of the files is read: some hundred lines.
const (
	maxTopEventBytes = 64 << 10
	maxTopLogBytes   = 64 << 10
)

// Events implements top.Source. Events that cannot be read are not shown.
func (s *topSource) Events() []top.Event {
	found, _ := eventlog.RecentEvents(s.Dir.LogDir(), maxTopEventBytes)
	events := make([]top.Event, 0, len(found))
	for _, e := range found {
		text := formatChange(e)
		if e.Reason != "" {
			text += ": " + e.Reason
		}
		events = append(events, top.Event{Time: e.Time, Service: e.Service, Text: text})
	}
	return events
}

// Log implements top.Source.
func (s *topSource) Log(service, path string) []top.LogLine {
	found, err := eventlog.RecentLines(service, path, maxTopLogBytes)
	if err != nil {
		return []top.LogLine{{Time: time.Now(), IsError: true, Text: err.Error()}}
	}
	lines := make([]top.LogLine, 0, len(found))
	for _, line := range found {
		lines = append(lines, top.LogLine{Time: line.Time, IsError: line.Level >= slog.LevelError, Text: line.Text})
	}
	return lines
}

// Command implements top.Source. The command acts on this project, in this directory, with this environment.
func (s *topSource) Command(ctx context.Context, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	cmd := exec.CommandContext(ctx, exe, append([]string{"-c", s.Config}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	return cmd
}
