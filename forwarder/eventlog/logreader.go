package eventlog

import (
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
)

// LogReader reads the lines of one log.
type LogReader struct {
	Name string // the service, or "supervisor"
	*Tail
	lastLine Line
}

// NewLogReader makes a reader of the log file at path, which need not exist. It must be closed.
func NewLogReader(name, path string) *LogReader { return &LogReader{Name: name, Tail: newTail(path)} }

// Read returns the lines that were added since the last call. A line that Parse does not recognize gets the time, level and run
// of the line before it.
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
		line.Text, line.Raw, line.TimeText = text, text, ""
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

// ListLogs returns the names of the logs in a directory, sorted.
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
