package eventlog

import (
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Line is a parsed line of a log file.
type Line struct {
	Time time.Time // UTC
	// TimeText is the time as it is in Raw; empty if Raw has none, and Time is that of a line before.
	TimeText string
	Level    slog.Level
	Service  string // the service that it is about; empty: the one that the file is named after
	Run      string // id of the tunnel's run, or of the supervisor's
	Request  string // id of the request of a client that caused it, if any
	Text     string // the message and the attributes that have no field here
	Raw      string // the whole line
}

// timeFormat is how times are written: lines of several services are put into order by them. readTimeFormat reads them with any number of
// decimals, which were three once.
const (
	timeFormat     = "2006-01-02T15:04:05.000000Z"
	readTimeFormat = "2006-01-02T15:04:05Z"
)

// formatLine formats a line of a service's log: `2026-11-23T03:04:05.123456Z INFO run.7 text`.
func formatLine(now time.Time, level, run, text string) string {
	var b strings.Builder
	writeLine(&b, formatTime(now), level, run, text)
	return b.String()
}

func formatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// writeLine is formatLine for a time that is formatted already.
func writeLine(b *strings.Builder, now, level, run, text string) {
	for _, part := range []string{now, " ", level, " ", run, " ", text, "\n"} {
		b.WriteString(part)
	}
}

// Parse parses a line of a service's log, or of the supervisor's, which slog.TextHandler writes. It returns false for a line in
// neither format, such as one of a stack trace, which continues the line before it.
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
	if line.Time, err = time.Parse(readTimeFormat, fields[0]); err != nil {
		return line, false
	}
	line.TimeText = fields[0]
	if line.Level.UnmarshalText([]byte(fields[1])) != nil {
		return line, false
	}
	line.Run, line.Text = strings.TrimPrefix(fields[2], "-"), fields[3]
	return line, true
}

// parseLogfmt parses a line that slog.TextHandler wrote.
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

// setField sets the field for an attribute; false if there is none, and the attribute is part of Text.
func (l *Line) setField(key, value string) bool {
	switch key {
	case slog.TimeKey:
		l.Time, _ = time.Parse(time.RFC3339Nano, value)
		l.Time, l.TimeText = l.Time.UTC(), value
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

// cutAttribute splits off the first key=value.
func cutAttribute(text string) (key, value, rest string, ok bool) {
	key, text, ok = cutWord(text, "=")
	if !ok || !strings.HasPrefix(text, "=") {
		return "", "", "", false
	}
	value, text, ok = cutWord(text[1:], " ")
	return key, value, strings.TrimPrefix(text, " "), ok
}

// cutWord splits off the first word: a quoted string, or all before end.
func cutWord(text, end string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		i := strings.Index(text, end)
		if i < 0 {
			i = len(text)
		}
		return text[:i], text[i:], true
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", false
	}
	value, err = strconv.Unquote(quoted)
	return value, text[len(quoted):], err == nil
}

// levelPatterns match the prefixes with which tools mark the level of a line; the first match counts. klog's header is a letter,
// month and day, and a time. They are compiled on first use, so that a prompt does not pay for them. Each is anchored as a whole: else the text is searched to its end.
var levelPatterns = sync.OnceValue(func() []levelPattern {
	return []levelPattern{
		{"DEBUG", regexp.MustCompile(`^(?:debug[1-3]: |(?i:debug)[: ])`)},
		{"ERROR", regexp.MustCompile(
			`^(?:[EF]\d{4} \d\d:|(?i:error|fatal)[: ]|Error from server|an error occurred |ssh: |panic: |fatal error: )`)},
		{"WARN", regexp.MustCompile(`^(?:W\d{4} \d\d:|(?i:warn(ing)?)[: ])`)},
	}
})

// levelInitials are the first characters of all texts that levelPatterns match.
const levelInitials = "DEFWadefpsw"

type levelPattern struct {
	name    string
	pattern *regexp.Regexp
}

// detectLevel returns the level that a tool's own prefix gives to a line, INFO without one.
func detectLevel(text string) string {
	if text == "" || !strings.Contains(levelInitials, text[:1]) { // this is called with every line of every child
		return "INFO"
	}
	for _, level := range levelPatterns() {
		if level.pattern.MatchString(text) {
			return level.name
		}
	}
	return "INFO"
}
