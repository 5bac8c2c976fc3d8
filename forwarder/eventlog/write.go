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

// RunWriter is a writer for what the children of one run say. Each line gets the time, the level that the tool's own words
// give it, and the run.
func (f *File) RunWriter(id string) io.Writer { return runWriter{f, id} }

type runWriter struct {
	file *File
	id   string
}

// Write appends one or more lines. The text alone is masked: a secret may well be INFO.
func (r runWriter) Write(p []byte) (int, error) {
	now := time.Now()
	var b strings.Builder
	for line := range strings.Lines(r.file.mask(string(p))) {
		line = escapeControls(strings.TrimRight(line, "\r\n"))
		b.WriteString(formatLine(now, detectLevel(line), r.id, line))
	}
	r.file.appendText(b.String())
	return len(p), nil
}

// escapeControls escapes what a terminal would act upon, for a log is shown as it stands, and what a far end says gets in.
func escapeControls(text string) string {
	isUnsafe := func(r rune) bool { return unicode.IsControl(r) && r != '\t' || r == utf8.RuneError }
	if !strings.ContainsFunc(text, isUnsafe) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		if !isUnsafe(r) {
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
	return slog.NewTextHandler(premaskedWriter{f}, &slog.HandlerOptions{Level: level, ReplaceAttr: f.maskAttr})
}

// premaskedWriter appends what is masked already.
type premaskedWriter struct{ *File }

func (m premaskedWriter) Write(p []byte) (int, error) {
	m.appendText(string(p))
	return len(p), nil
}

func (f *File) maskAttr(_ []string, a slog.Attr) slog.Attr {
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
