package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// watchInterval is how often a stopped project is checked, and how often the ages on a terminal are updated. renewInterval is how often
// the status of a running supervisor is requested again: it reports changes by itself, but not those of counters such as bytes.
const (
	watchInterval = time.Second
	renewInterval = 10 * time.Second
)

// watch shows the project as it changes, also when supervisors end and start, until the user interrupts it. An error before the first
// status, or of the output, is returned; others are shown.
func (c statusCmd) watch(a *app, p commandProject) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer endInterruptedLine(ctx, a.out)
	a.endsWithReader = true
	view, environment := c.newView(a), environmentComparison{}
	f := statusFollower{p, c.interval()}
	for shown := false; ; {
		startTime := time.Now()
		err := f.follow(ctx, func(status api.Status) (err error) {
			if hasReaderClosed(a.out.File()) {
				return &writeError{syscall.EPIPE}
			}
			if status.Services, err = c.selectFrom(status); err != nil {
				return err
			}
			shown = true
			status.Draining = p.Draining()
			if view.showsWarnings() {
				if text := environment.describe(ctx, status.Supervisor); text != "" {
					status.Warnings = append(slices.Clip(status.Warnings), text)
				}
			}
			if err := view.show(status); err != nil {
				return &writeError{err}
			}
			return nil
		})
		writeErr, isWriteError := errors.AsType[*writeError](err)
		switch {
		case isWriteError && errors.Is(writeErr, syscall.EPIPE): // the reader has seen enough
			return nil
		case isWriteError:
			return writeErr.error
		case ctx.Err() != nil:
			return nil
		case err != nil && !shown:
			return err
		case err != nil:
			view.showProblem(err)
		}
		if remaining := f.interval - time.Since(startTime); remaining > 0 && !wait.Sleep(ctx, remaining) {
			return nil
		}
	}
}

// endInterruptedLine ends the line of the ^C with which a terminal shows that the user has interrupted a command, so that the shell's prompt begins a line.
// It is called when the command ends; ctx is that of signal.NotifyContext.
func endInterruptedLine(ctx context.Context, w *output.Writer) {
	if ctx.Err() != nil && w.IsTerminal() {
		fmt.Fprintln(w)
	}
}

// environmentComparison is the last comparison of this shell's environment with the supervisor's.
type environmentComparison struct {
	run      string // of the supervisor that was asked
	revision uint64 // of its environment
	at       time.Time
	text     string
}

// describe is describeOtherEnvironment. A supervisor is asked again only when its environment has changed, or after renewInterval: the files that
// say which variables are used may have changed too.
func (c *environmentComparison) describe(ctx context.Context, running *api.SupervisorStatus) string {
	if running == nil {
		return ""
	}
	if running.Run == c.run && running.EnvironmentRevision == c.revision && time.Since(c.at) < renewInterval {
		return c.text
	}
	text, ok := describeOtherEnvironment(ctx, client.Client{Socket: running.Socket})
	if ok || running.Run != c.run {
		c.text = text
	}
	c.run, c.revision, c.at = running.Run, running.EnvironmentRevision, time.Now()
	return c.text
}

// writeError is an error of writing the output.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// refreshInterval is the value of --interval: a duration, or a number of seconds.
type refreshInterval time.Duration

// minRefreshInterval keeps the terminal readable.
const minRefreshInterval = 100 * time.Millisecond

// UnmarshalText reads a flag's value.
func (i *refreshInterval) UnmarshalText(text []byte) error {
	d, err := project.ParseDuration(string(text))
	if err != nil || d <= 0 {
		return fmt.Errorf("invalid time %q: must be a duration such as 2s, or a number of seconds", text)
	}
	*i = refreshInterval(max(d, minRefreshInterval))
	return nil
}

func (c statusCmd) interval() time.Duration { return cmp.Or(time.Duration(c.Interval), watchInterval) }

// statusFollower shows a project's status again at least at an interval.
type statusFollower struct {
	commandProject
	interval time.Duration
}

// follow shows the project: once if it is stopped, else as it changes, until its supervisor exits or renewInterval has passed.
func (p statusFollower) follow(ctx context.Context, show func(api.Status) error) error {
	findCtx, cancel := context.WithTimeout(ctx, client.CommandTimeout())
	defer cancel()
	client, status, err := p.FindSupervisor(findCtx)
	if err == nil && client == nil {
		status, err = p.stoppedStatus(ctx)
	}
	if err == nil {
		err = show(status)
	}
	if err != nil || client == nil {
		return err
	}
	return p.followSupervisor(ctx, client, show)
}

func (p statusFollower) followSupervisor(ctx context.Context, running *client.Client, show func(api.Status) error) error {
	ctx, cancel := context.WithTimeout(ctx, renewInterval)
	statusCh, watchErrCh := make(chan api.Status), make(chan error, 1)
	go func() {
		watchErrCh <- running.Watch(ctx, func(s api.Status) bool {
			s.Project, s.Config = p.Root, p.Config // exact bytes, which JSON does not have
			select {
			case statusCh <- s:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() { cancel(); <-watchErrCh }() //nolint:errcheck // it was returned already, or is not needed
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	resizedCh := make(chan os.Signal, 1)
	signal.Notify(resizedCh, syscall.SIGWINCH)
	defer signal.Stop(resizedCh)
	var last *api.Status
	for {
		select {
		case <-resizedCh:
		case s := <-statusCh:
			last = &s
		case <-tick.C: // the ages on the screen have changed
		case err := <-watchErrCh:
			watchErrCh <- err
			if client.IsUnknownRequest(err) || isUnreachableError(err) || errors.Is(err, api.ErrTooManyWatchers) {
				return nil // the next follow finds its successor
			}
			return err
		}
		if last == nil {
			continue
		}
		if err := show(*last); err != nil {
			return err
		}
	}
}

// statusView shows a watched status.
type statusView interface {
	show(api.Status) error
	showProblem(error)
	showsWarnings() bool
}

func (c statusCmd) newView(a *app) statusView {
	if a.out.IsTerminal() && c.Output == "table" && !c.JSON {
		return &screenView{out: a.out.File(), size: a.out.Size, encode: a.out.Encode}
	}
	return &lineView{out: a.out, err: a.err, isJSON: c.isJSON(), last: map[string]string{}}
}

// lineView prints what has changed: the lines of services, or the whole status as one line of JSON.
type lineView struct {
	out, err    io.Writer
	isJSON      bool
	last        map[string]string // the line printed last, by service; with isJSON under ""
	lastProblem string            // the problem printed last
}

func (l *lineView) show(status api.Status) error {
	l.lastProblem = ""
	if l.isJSON {
		status.Project, status.Config = output.JSONText(status.Project), output.JSONText(status.Config)
		var line strings.Builder
		if err := output.JSONLine(&line, status); err != nil {
			return err
		}
		return l.printChange("", strings.TrimSuffix(line.String(), "\n"))
	}
	for _, svc := range status.Services {
		if err := l.printChange(svc.Name, formatLine(svc)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lineView) showsWarnings() bool { return l.isJSON }

func (l *lineView) printChange(name, line string) error {
	if l.last[name] == line {
		return nil
	}
	l.last[name] = line
	_, err := fmt.Fprintln(l.out, line)
	return err
}

func (l *lineView) showProblem(err error) {
	if l.lastProblem != err.Error() {
		l.lastProblem = err.Error()
		output.Info(l.err, "%s", output.JoinLines(err.Error()))
	}
}

// screenView redraws a terminal in place. It changes no setting of the terminal, so that none has to be restored.
type screenView struct {
	out    io.Writer
	size   func() (columns, rows int)
	encode func(output.Line) string
	drawn  []int // the widths of the lines on the screen
}

// Escape sequences of ECMA-48 that every terminal knows.
const (
	cursorUp  = "\x1b[%dA\r"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

func (v *screenView) show(status api.Status) error {
	columns, _ := v.size()
	return v.draw(statusLines(status, columns))
}

func (v *screenView) showsWarnings() bool { return true }

func (v *screenView) showProblem(err error) {
	columns, _ := v.size()
	_ = v.draw(layout.Wrap(output.PlainLine("localport: "+output.JoinLines(err.Error())), columns, messageIndent))
}

// draw replaces what was drawn before, in one write so that the terminal does not flicker. Lines that do not fit on the screen are left
// out: the cursor cannot move above the first row.
func (v *screenView) draw(lines []output.Line) error {
	columns, rows := v.size()
	if limit := max(rows-1, 1); len(lines) > limit {
		lines = append(slices.Clone(lines[:limit-1]), output.Line{{Style: output.Faint, Text: fmt.Sprintf("… %d more lines", len(lines)-limit+1)}})
	}
	var b bytes.Buffer
	if up := v.drawnRows(columns); up > 0 {
		fmt.Fprintf(&b, cursorUp, min(up, max(rows-1, 1)))
	}
	v.drawn = v.drawn[:0]
	for _, line := range lines {
		line = layout.TruncateLine(line, columns)
		// In this order: after a full line, the cursor is still on the last character, which clearLine would erase.
		b.WriteString(clearLine + v.encode(line) + "\n")
		v.drawn = append(v.drawn, layout.Width(line.String()))
	}
	b.WriteString(clearRest)
	_, err := v.out.Write(b.Bytes())
	return err
}

// drawnRows returns how many rows the lines on the screen take. A terminal that has become narrower has broken those that are too long.
func (v *screenView) drawnRows(columns int) int {
	rows := 0
	for _, width := range v.drawn {
		rows += max(1, (width+columns-1)/max(columns, 1))
	}
	return rows
}
