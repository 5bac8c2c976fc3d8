package eventlog

import (
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
)

// LogReader reads one log.
type LogReader struct {
	Name string // of the service, or "supervisor"
	*Tail
	lastLine Line
}

// NewLogReader is the log of this name at path, which need not exist.
func NewLogReader(name, path string) *LogReader { return &LogReader{Name: name, Tail: NewTail(path)} }

// Read returns the lines that were added since the last call. A line that fits nothing has the time, level and run of
// the one before it.
func (l *LogReader) Read() ([]Line, error) {
	texts, err := l.Tail.Read()
	lines := make([]Line, 0, len(texts))
	for _, text := range texts {
		lines = append(lines, l.parseLine(text))
	}
	return lines, err
}

func (l *LogReader) parseLine(text string) Line {
	line, ok := Parse(text)
	if !ok {
		line = l.lastLine
		line.Text, line.Raw = text, text
		if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
			line.Level = slog.LevelError
		}
	}
	if line.Service == "" {
		line.Service = l.Name
	}
	l.lastLine = line
	return line
}

// ListLogs are the logs that a directory has, in order.
func ListLogs(dir string) ([]string, error) {
	var names []string
	err := forEachFile(dir, func(name string, _ int, _ fs.FileInfo) error {
		if name, ok := strings.CutSuffix(name, logFileSuffix); ok {
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
