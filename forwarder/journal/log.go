package journal

import (
	"log/slog"
	"slices"
	"strings"
)

// Log reads one log.
type Log struct {
	Name string // of the service, or "supervisor"
	*Tail
	last Line
}

// OpenLog is the log of this name at path, which need not exist.
func OpenLog(name, path string) *Log { return &Log{Name: name, Tail: NewTail(path)} }

// Read returns the lines that were added since the last call. A line that fits nothing has the time, level and run of
// the one before it.
func (l *Log) Read() ([]Line, error) {
	texts, err := l.Tail.Read()
	lines := make([]Line, 0, len(texts))
	for _, text := range texts {
		lines = append(lines, l.line(text))
	}
	return lines, err
}

func (l *Log) line(text string) Line {
	line, ok := Parse(text)
	if !ok {
		line = l.last
		line.Text, line.Raw = text, text
		if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
			line.Level = slog.LevelError
		}
	}
	if line.Service == "" {
		line.Service = l.Name
	}
	l.last = line
	return line
}

// SortByTime merges lines of several logs; those of one log stay in their order.
func SortByTime(lines []Line) {
	slices.SortStableFunc(lines, func(a, b Line) int { return a.Time.Compare(b.Time) })
}
