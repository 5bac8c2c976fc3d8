package eventlog

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Run is a writer for what the children of one run say. Each line gets the time, the level that the tool's own words
// give it, and the run.
func (f *File) Run(id string) io.Writer { return run{f, id} }

type run struct {
	file *File
	id   string
}

// Write appends one or more lines. The text alone is masked: a secret may well be INFO.
func (r run) Write(p []byte) (int, error) {
	now := time.Now()
	var b strings.Builder
	for line := range strings.Lines(r.file.mask(string(p))) {
		line = printable(strings.TrimRight(line, "\r\n"))
		b.WriteString(stamp(now, levelOf(line), r.id, line))
	}
	r.file.append(b.String())
	return len(p), nil
}

// printable escapes what a terminal would act upon, for a log is shown as it stands, and what a far end says gets in.
func printable(text string) string {
	acts := func(r rune) bool { return unicode.IsControl(r) && r != '\t' || r == utf8.RuneError }
	if !strings.ContainsFunc(text, acts) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		if !acts(r) {
			b.WriteRune(r)
			continue
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		for _, c := range []byte(text[i : i+size]) {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// Handler logs to the file as slog's text, with times in UTC. Messages and values are masked, but for the words of
// ours that Parse looks for.
func (f *File) Handler(level slog.Leveler) slog.Handler {
	return slog.NewTextHandler(masked{f}, &slog.HandlerOptions{Level: level, ReplaceAttr: f.replace})
}

// masked appends what is masked already.
type masked struct{ *File }

func (m masked) Write(p []byte) (int, error) {
	m.append(string(p))
	return len(p), nil
}

func (f *File) replace(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey:
		if a.Value.Kind() == slog.KindTime {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	case slog.LevelKey, "service", "run", "request", "from", "to":
		return a
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(f.mask(a.Value.String()))
	case slog.KindAny:
		text := fmt.Sprint(a.Value.Any())
		if hidden := f.mask(text); hidden != text {
			a.Value = slog.StringValue(hidden)
		}
	}
	return a
}
