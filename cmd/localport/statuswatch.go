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

// watchEvery is how often a project that is down is looked at, and how old the ages may be that a terminal shows.
// renewEvery is how often a running supervisor is asked anew although it tells what changes: figures that are no change,
// such as a number of bytes, come with that.
const (
	watchEvery = time.Second
	renewEvery = 10 * time.Second
)

// watch shows the project as it changes, through the supervisor's end and the next one's start, until the user
// interrupts it. Only when the first look fails it is an error.
func (c statusCmd) watch(a *app) error {
	p, err := a.here()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	view := c.view(a)
	for shown := false; ; {
		began := time.Now()
		err := p.follow(ctx, func(status api.Status) error {
			shown = true
			if err := view.show(status); err != nil {
				return &outputError{err}
			}
			return nil
		})
		failed, broken := errors.AsType[*outputError](err)
		switch {
		case broken:
			return failed.error
		case ctx.Err() != nil:
			return nil
		case err != nil && !shown:
			return err
		case err != nil:
			view.trouble(err)
		}
		if rest := watchEvery - time.Since(began); rest > 0 && !wait.Sleep(ctx, rest) {
			return nil
		}
	}
}

// outputError says that what is shown cannot be written.
type outputError struct{ error }

// follow shows the project once if it is down, and else as it changes, until its supervisor ends or is to be asked anew.
func (p here) follow(ctx context.Context, show func(api.Status) error) error {
	finding, cancel := context.WithTimeout(ctx, client.Patience())
	defer cancel()
	client, status, err := p.Find(finding)
	if err == nil && client == nil {
		status, err = p.statusDown(ctx)
	}
	if err == nil {
		err = show(status)
	}
	if err != nil || client == nil {
		return err
	}
	return p.followRunning(ctx, client, show)
}

func (p here) followRunning(ctx context.Context, running *client.Client, show func(api.Status) error) error {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
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
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last *api.Status
	for {
		select {
		case s := <-statuses:
			last = &s
		case <-tick.C: // what is shown grows older
		case err := <-ended:
			ended <- err
			if client.IsUnknown(err) || isUnreachable(err) || errors.Is(err, api.ErrTooManyWatchers) {
				return nil // what has become of it is seen at the next look
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

// view is where a watched status goes.
type view interface {
	show(api.Status) error
	trouble(error)
}

func (c statusCmd) view(a *app) view {
	if columns, _ := a.out.Size(); columns > 0 && c.Output == "table" && !c.JSON {
		return &redrawn{out: a.out.File(), size: a.out.Size}
	}
	return &listed{out: a.out, err: a.err, json: c.json(), last: map[string]string{}}
}

// listed prints what differs from the last time: the lines of services, or the whole as one line of JSON.
type listed struct {
	out, err io.Writer
	json     bool
	last     map[string]string // by service; under the empty name the whole
	said     string            // the trouble that has been told
}

func (l *listed) show(status api.Status) error {
	l.said = ""
	if l.json {
		var line strings.Builder
		if err := output.JSONLine(&line, status); err != nil {
			return err
		}
		return l.line("", strings.TrimSuffix(line.String(), "\n"))
	}
	for _, svc := range status.Services {
		if err := l.line(svc.Name, plain(svc)); err != nil {
			return err
		}
	}
	return nil
}

func (l *listed) line(name, line string) error {
	if l.last[name] == line {
		return nil
	}
	l.last[name] = line
	_, err := fmt.Fprintln(l.out, line)
	return err
}

func (l *listed) trouble(err error) {
	if l.said != err.Error() {
		l.said = err.Error()
		output.Info(l.err, "%s", output.Flatten(err.Error()))
	}
}

// redrawn draws over what it drew last on a terminal. Nothing is hidden or switched, so that nothing is to be restored
// however it ends.
type redrawn struct {
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

func (r *redrawn) show(status api.Status) error {
	columns, _ := r.size()
	var b strings.Builder
	overview(&b, status, columns)
	return r.draw(b.String())
}

func (r *redrawn) trouble(err error) { _ = r.draw("localport: " + output.Flatten(err.Error()) + "\n") }

// draw writes everything at once, so that it does not flicker. What has no room is left out: a terminal cannot go back
// above its first row.
func (r *redrawn) draw(picture string) error {
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
