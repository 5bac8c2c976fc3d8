package eventlog

import (
	"errors"
	"io/fs"
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

// Names are the logs that a directory has, in order.
func Names(dir string) ([]string, error) {
	var names []string
	err := eachFile(dir, func(name string, _ int, _ fs.FileInfo) error {
		if name, ok := strings.CutSuffix(name, logSuffix); ok {
			names = append(names, name)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	slices.Sort(names)
	return slices.Compact(names), err
}
