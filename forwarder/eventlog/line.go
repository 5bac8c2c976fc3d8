package eventlog

import (
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Line is a line of a log, as it is understood.
type Line struct {
	Time    time.Time // UTC, to the millisecond
	Level   slog.Level
	Service string // that it is about; empty: the log's name says it
	Run     string // of the tunnel, or of the supervisor
	Request string // of a client, where one caused it
	Text    string // without what the other fields hold
	Raw     string // as it stands in the file
}

const timeFormat = "2006-01-02T15:04:05.000Z"

// formatLine is a line of a service's log: `2026-11-23T03:04:05.123Z INFO run.7 text`.
func formatLine(now time.Time, level, run, text string) string {
	return fmt.Sprintf("%s %s %s %s\n", now.UTC().Format(timeFormat), level, run, text)
}

// Parse reads a line of a service's log, or of the supervisor's, which is slog's text. It reports whether the line is
// one: what fits neither, as a panic's trace does, belongs to the line before it.
func Parse(text string) (Line, bool) {
	line := Line{Raw: text}
	if strings.HasPrefix(text, "time=") {
		return parseLogfmt(line)
	}
	fields := strings.SplitN(text, " ", 4)
	if len(fields) < 4 {
		return line, false
	}
	var err error
	if line.Time, err = time.Parse(timeFormat, fields[0]); err != nil {
		return line, false
	}
	if line.Level.UnmarshalText([]byte(fields[1])) != nil {
		return line, false
	}
	line.Run, line.Text = strings.TrimPrefix(fields[2], "-"), fields[3]
	return line, true
}

// parseLogfmt reads what slog's text handler writes.
func parseLogfmt(line Line) (Line, bool) {
	var rest []string
	for text := line.Raw; text != ""; {
		key, value, after, ok := cutAttribute(text)
		if !ok {
			return line, false
		}
		if !line.setField(key, value) {
			rest = append(rest, strings.TrimSpace(text[:len(text)-len(after)]))
		}
		text = after
	}
	line.Text = strings.TrimSpace(line.Text + " " + strings.Join(rest, " "))
	return line, !line.Time.IsZero()
}

// setField puts an attribute where it belongs; false: it is part of the text.
func (l *Line) setField(key, value string) bool {
	switch key {
	case slog.TimeKey:
		l.Time, _ = time.Parse(time.RFC3339Nano, value)
		l.Time = l.Time.UTC()
	case slog.LevelKey:
		_ = l.Level.UnmarshalText([]byte(value))
	case slog.MessageKey:
		l.Text = value
	case "service":
		l.Service = value
	case "run":
		l.Run = value
	case "request":
		l.Request = value
	default:
		return false
	}
	return true
}

// cutAttribute takes the first key=value off a text.
func cutAttribute(text string) (key, value, rest string, ok bool) {
	key, text, ok = cutWord(text, "=")
	if !ok || !strings.HasPrefix(text, "=") {
		return "", "", "", false
	}
	value, text, ok = cutWord(text[1:], " ")
	return key, value, strings.TrimPrefix(text, " "), ok
}

// cutWord takes a word off a text: a quoted one, or all that stands before end.
func cutWord(text, end string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		at := strings.Index(text, end)
		if at < 0 {
			at = len(text)
		}
		return text[:at], text[at:], true
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", false
	}
	value, err = strconv.Unquote(quoted)
	return value, text[len(quoted):], err == nil
}

// levelPatterns is what tools say at the beginning of a line about how bad it is; the first that fits counts. klog's header is a
// letter, month and day, and a time. They are compiled when they are first used: every start of the program would pay
// for it, a prompt's too.
var levelPatterns = sync.OnceValue(func() []levelPattern {
	return []levelPattern{
		{"DEBUG", regexp.MustCompile(`^debug[1-3]: |^(?i:debug)[: ]`)},
		{"ERROR", regexp.MustCompile(
			`^[EF]\d{4} \d\d:|^(?i:error|fatal)[: ]|^Error from server|^an error occurred |^ssh: |^panic: |^fatal error: `)},
		{"WARN", regexp.MustCompile(`^W\d{4} \d\d:|^(?i:warn(ing)?)[: ]`)},
	}
})

type levelPattern struct {
	name    string
	pattern *regexp.Regexp
}

// detectLevel is how bad the tool itself says it is.
func detectLevel(text string) string {
	for _, level := range levelPatterns() {
		if level.pattern.MatchString(text) {
			return level.name
		}
	}
	return "INFO"
}
