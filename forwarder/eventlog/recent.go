package eventlog

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// RecentLines returns the lines in the last maxBytes of a log file, without its rotated files; none if it does not exist. Like LogReader.Read it gives
// a line that Parse does not recognize the time and level of the line before it.
func RecentLines(name, path string, maxBytes int64) ([]Line, error) {
	texts, err := recentTexts(path, maxBytes)
	reader, lines := LogReader{Name: name}, make([]Line, 0, len(texts))
	for _, text := range texts {
		lines = append(lines, reader.parseLine(text))
	}
	return lines, err
}

// RecentEvents returns the events in the last maxBytes of a log directory's current file of events, oldest first; none if it does not exist.
func RecentEvents(dir string, maxBytes int64) ([]Event, error) {
	texts, err := recentTexts(filepath.Join(dir, eventsFileName), maxBytes)
	var events []Event
	for _, text := range texts {
		if event, ok := decodeEvent([]byte(text)); ok {
			events = append(events, event)
		}
	}
	return events, err
}

// recentTexts returns the whole lines in the last maxBytes of a file.
func recentTexts(path string, maxBytes int64) ([]string, error) {
	data, err := readEnd(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if int64(len(data)) == maxBytes { // the first line is probably not whole
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	last := bytes.LastIndexByte(data, '\n') // what follows is still being written
	if err != nil || last < 0 {
		return nil, err
	}
	return strings.Split(string(data[:last]), "\n"), nil
}
