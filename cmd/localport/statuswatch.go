package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/localport-sh/localport/cmd/localport/place"
	"github.com/localport-sh/localport/forwarder/control"
)

// watchEvery is how old what `status --watch` shows may be.
const watchEvery = time.Second

// watch shows the project again and again, through the supervisor's end and the next one's start, until the user
// interrupts it. Only when the first look fails it is an error.
func (c statusCmd) watch(a *app) error {
	p, err := a.here()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	view := c.view(a)
	for first := true; ; first = false {
		status, err := p.statusIn(ctx, place.Patience())
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			view.trouble(err)
		default:
			if err := view.show(status); err != nil {
				return err
			}
		}
		if !place.Pause(ctx, watchEvery) {
			return nil
		}
	}
}

func (p here) statusIn(ctx context.Context, limit time.Duration) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return p.status(ctx)
}

// view is where a watched status goes.
type view interface {
	show(control.Status) error
	trouble(error)
}

func (c statusCmd) view(a *app) view {
	if columns, _ := terminalSize(a.out); columns > 0 && c.Output == "table" && !c.JSON {
		return &redrawn{out: a.out, size: func() (int, int) { return terminalSize(a.out) }}
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

func (l *listed) show(status control.Status) error {
	l.said = ""
	if l.json {
		line, err := json.Marshal(status)
		if err != nil {
			return err
		}
		return l.line("", string(line))
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
		fmt.Fprintln(l.err, "localport:", err)
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

func (r *redrawn) show(status control.Status) error {
	columns, _ := r.size()
	var b strings.Builder
	overview(&b, status, columns)
	return r.draw(b.String())
}

func (r *redrawn) trouble(err error) { _ = r.draw("localport: " + err.Error() + "\n") }

// draw writes everything at once, so that it does not flicker. What has no room is left out: a terminal cannot go back
// above its first row.
func (r *redrawn) draw(picture string) error {
	columns, rows := r.size()
	lines := strings.Split(strings.TrimRight(text.WrapText(picture, max(columns, 1)), "\n"), "\n")
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
