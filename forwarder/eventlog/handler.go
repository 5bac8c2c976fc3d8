package eventlog

import (
	"fmt"
	"log/slog"
)

// Handler returns a handler that writes slog's text format, with times in UTC. Messages and values are masked, except for
// level, service, run, request, from and to, whose values are our own.
func (f *File) Handler(level slog.Leveler) slog.Handler {
	return slog.NewTextHandler(premaskedWriter{f}, &slog.HandlerOptions{Level: level, ReplaceAttr: f.maskAttr})
}

// premaskedWriter appends text that is already masked.
type premaskedWriter struct{ *File }

func (w premaskedWriter) Write(p []byte) (int, error) {
	w.appendText(string(p))
	return len(p), nil
}

func (f *File) maskAttr(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey:
		if a.Value.Kind() == slog.KindTime {
			a.Value = slog.StringValue(a.Value.Time().UTC().Format(timeFormat))
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
