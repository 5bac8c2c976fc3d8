package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/wait"
)

// watchInterval is how often a stopped project is checked, and how old the ages on a terminal may be. renewInterval is how often the
// status of a running supervisor is requested again although it reports changes: counters, such as bytes, are no change.
const (
	watchInterval = time.Second
	renewInterval = 10 * time.Second
)

// watch shows the project as it changes, through the supervisor's end and the next one's start, until the user
// interrupts it. It is an error only if the first status cannot be had.
func (c statusCmd) watch(a *app) error {
	p, err := a.findProject()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	view := c.view(a)
	for shown := false; ; {
		began := time.Now()
		err := p.followStatus(ctx, func(status api.Status) error {
			shown = true
			if err := view.show(status); err != nil {
				return &writeError{err}
			}
			return nil
		})
		failed, broken := errors.AsType[*writeError](err)
		switch {
		case broken:
			return failed.error
		case ctx.Err() != nil:
			return nil
		case err != nil && !shown:
			return err
		case err != nil:
			view.showProblem(err)
		}
		if rest := watchInterval - time.Since(began); rest > 0 && !wait.Sleep(ctx, rest) {
			return nil
		}
	}
}

// writeError is a failed write of the output.
type writeError struct{ error }

// followStatus shows the project once if it is down, and else as it changes, until its supervisor exits or renewInterval is over.
func (p commandProject) followStatus(ctx context.Context, show func(api.Status) error) error {
	finding, cancel := context.WithTimeout(ctx, client.CommandTimeout())
	defer cancel()
	client, status, err := p.FindSupervisor(finding)
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

func (p commandProject) followSupervisor(ctx context.Context, running *client.Client, show func(api.Status) error) error {
	ctx, cancel := context.WithTimeout(ctx, renewInterval)
	statuses, ended := make(chan api.Status), make(chan error, 1)
	go func() {
		ended <- running.Watch(ctx, func(s api.Status) bool {
			select {
			case statuses <- s:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() { cancel(); <-ended }() //nolint:errcheck // it was returned, or nobody asks any more
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var last *api.Status
	for {
		select {
		case s := <-statuses:
			last = &s
		case <-tick.C: // what is shown grows older
		case err := <-ended:
			ended <- err
			if client.IsUnknownRequest(err) || isUnreachable(err) || errors.Is(err, api.ErrTooManyWatchers) {
				return nil // the next call finds its successor
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
}

func (c statusCmd) view(a *app) statusView {
	if columns, _ := a.out.Size(); columns > 0 && c.Output == "table" && !c.JSON {
		return &screenView{out: a.out.File(), size: a.out.Size}
	}
	return &lineView{out: a.out, err: a.err, json: c.json(), last: map[string]string{}}
}

// lineView prints what has changed: the lines of services, or the whole status as one line of JSON.
type lineView struct {
	out, err    io.Writer
	json        bool
	last        map[string]string // by service; under the empty name the whole
	lastProblem string            // the trouble that has been told
}

func (l *lineView) show(status api.Status) error {
	l.lastProblem = ""
	if l.json {
		var line strings.Builder
		if err := output.JSONLine(&line, status); err != nil {
			return err
		}
		return l.line("", strings.TrimSuffix(line.String(), "\n"))
	}
	for _, svc := range status.Services {
		if err := l.line(svc.Name, formatLine(svc)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lineView) line(name, line string) error {
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

// screenView draws over what it drew last on a terminal. Nothing is hidden or switched, so that nothing is to be restored
// however it ends.
type screenView struct {
	out  io.Writer
	size func() (columns, rows int)
	rows int // that were drawn last
}

// Escape sequences of ECMA-48 that every terminal knows.
const (
	cursorUp  = "\x1b[%dA\r"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

func (r *screenView) show(status api.Status) error {
	columns, _ := r.size()
	var b strings.Builder
	printStatus(&b, status, columns)
	return r.draw(b.String())
}

func (r *screenView) showProblem(err error) {
	_ = r.draw("localport: " + output.JoinLines(err.Error()) + "\n")
}

// draw writes everything at once, so that it does not flicker. What has no room is left out: a terminal cannot go back
// above its first row.
func (r *screenView) draw(picture string) error {
	columns, rows := r.size()
	lines := strings.Split(strings.TrimRight(text.WrapText(output.Text(picture), max(columns, 1)), "\n"), "\n")
	lines = lines[:min(len(lines), max(rows-1, 1))]
	var b bytes.Buffer
	if r.rows > 0 {
		fmt.Fprintf(&b, cursorUp, min(r.rows, max(rows-1, 1)))
	}
	for _, line := range lines {
		b.WriteString(clearLine + line + "\n") // after a full line the cursor still stands on its last character
	}
	b.WriteString(clearRest)
	r.rows = len(lines)
	_, err := r.out.Write(b.Bytes())
	return err
}
