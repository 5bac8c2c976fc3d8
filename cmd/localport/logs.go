package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

type logsCmd struct {
	Services []string      `arg:"" optional:"" name:"service" help:"Services, or \"supervisor\"; none means every service."`
	Follow   bool          `short:"f" help:"Go on printing what is added."`
	Lines    int           `short:"n" default:"-1" help:"Only the last N lines."`
	Grep     string        `placeholder:"RE" help:"Only the lines that match."`
	Since    time.Duration `help:"Only the lines of the last while, such as 10m."`
	List     bool          `help:"List the logs there are."`
	Path     bool          `help:"Print the paths of the logs instead."`
}

// supervisorLog is the name under which the supervisor's own log is asked for.
const supervisorLog = "supervisor"

// entryLine is a line of a log, with the service that it belongs to.
type entryLine struct{ service, text string }

// Run prints the logs of services, merged by time where there are several.
func (c logsCmd) Run(a *app) error {
	p, err := a.place()
	if err != nil {
		return err
	}
	names, err := c.names(p)
	if err != nil {
		return err
	}
	if c.Path || c.List {
		for _, name := range names {
			if c.Path {
				fmt.Fprintln(a.out, p.dir.Log(name))
			} else {
				fmt.Fprintln(a.out, name)
			}
		}
		return nil
	}
	filter, err := c.filter()
	if err != nil {
		return err
	}
	tails, lines, err := c.read(p, names, filter)
	if err != nil {
		return err
	}
	printLines(a.out, lines, len(names) > 1)
	if !c.Follow {
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return follow(ctx, a.out, tails, filter, len(names) > 1)
}

// names are the logs asked for: those named, or every one that a service has.
func (c logsCmd) names(p *place) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(p.dir.LogDir(), "*.log"))
	if err != nil {
		return nil, err
	}
	var known []string
	for _, path := range found {
		known = append(known, strings.TrimSuffix(filepath.Base(path), ".log"))
	}
	if len(c.Services) == 0 {
		if c.List {
			return known, nil
		}
		return slices.DeleteFunc(known, func(n string) bool { return n == supervisorLog }), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if status, err := p.status(ctx); err == nil {
		for _, svc := range status.Services {
			known = append(known, svc.Name)
		}
	}
	for _, name := range c.Services {
		if !slices.Contains(known, name) {
			return nil, unknown("service", name, known)
		}
	}
	return c.Services, nil
}

// filter is what lines must pass.
func (c logsCmd) filter() (func(string) bool, error) {
	re, err := regexp.Compile(c.Grep)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--grep: %w", err)}
	}
	oldest := ""
	if c.Since > 0 {
		oldest = time.Now().UTC().Add(-c.Since).Format("2006-01-02T15:04:05.000Z")
	}
	return func(line string) bool { return stamp(line) >= oldest && re.MatchString(line) }, nil
}

// stamp is the time of a line: our logs begin with one that sorts as text.
func stamp(line string) string {
	return strings.TrimPrefix(strings.SplitN(line, " ", 2)[0], "time=")
}

// tail is a log that is being followed.
type tail struct {
	service string
	path    string
	offset  int64
	part    string // a line that is not whole yet
}

func (c logsCmd) read(p *place, names []string, filter func(string) bool) ([]*tail, []entryLine, error) {
	var tails []*tail
	var lines []entryLine
	for _, name := range names {
		old := &tail{service: name, path: p.dir.Log(name) + ".1"}
		now := &tail{service: name, path: p.dir.Log(name)}
		for _, t := range []*tail{old, now} {
			more, err := t.more()
			if err != nil {
				return nil, nil, err
			}
			for _, line := range more {
				if filter(line) {
					lines = append(lines, entryLine{name, line})
				}
			}
		}
		tails = append(tails, now)
	}
	slices.SortStableFunc(lines, func(a, b entryLine) int { return strings.Compare(stamp(a.text), stamp(b.text)) })
	if c.Lines >= 0 && len(lines) > c.Lines {
		lines = lines[len(lines)-c.Lines:]
	}
	return tails, lines, nil
}

// more are the whole lines that were added since the last call. A log that shrank was put aside: it is read anew.
func (t *tail) more() ([]string, error) {
	file, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() < t.offset {
		t.offset, t.part = 0, ""
	}
	if _, err := file.Seek(t.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var lines []string
	for reader := bufio.NewReader(file); ; {
		text, err := reader.ReadString('\n')
		t.offset += int64(len(text))
		t.part += text
		if err != nil {
			return lines, nil
		}
		lines = append(lines, strings.TrimSuffix(t.part, "\n"))
		t.part = ""
	}
}

func printLines(w io.Writer, lines []entryLine, named bool) {
	for _, line := range lines {
		if named {
			fmt.Fprintf(w, "%s: %s\n", line.service, line.text)
		} else {
			fmt.Fprintln(w, line.text)
		}
	}
}

// follow prints what is added until ctx ends.
func follow(ctx context.Context, w io.Writer, tails []*tail, filter func(string) bool, named bool) error {
	for pause(ctx, 200*time.Millisecond) {
		for _, t := range tails {
			more, err := t.more()
			if err != nil {
				return err
			}
			for _, line := range more {
				if filter(line) {
					printLines(w, []entryLine{{t.service, line}}, named)
				}
			}
		}
	}
	return nil
}
