package eventlog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxRecentBytes is how much of the events' end a prompt reads, in bytes: some hundred events. A shell that was away for
// longer is told what is left.
const maxRecentBytes = 16 << 10

// EventsSince are the events that shells are told of and that are newer than this number of the prompt's line, the oldest
// first. Only the end of the file is read; a prompt calls it.
func EventsSince(dir string, line uint64) ([]Event, error) {
	path := filepath.Join(dir, eventsFileName)
	var found []Event
	for n, left := 0, int64(maxRecentBytes); n < 2 && left > 0; n++ {
		data, err := readEnd(rotatedName(path, n), left)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		left -= int64(len(data))
		if appendNewer(data, line, &found) {
			break
		}
	}
	slices.Reverse(found)
	return found, nil
}

// appendNewer appends the events of data that are newer than line, the newest first, and reports whether it met one that is
// not.
func appendNewer(data []byte, line uint64, found *[]Event) bool {
	lines := bytes.Split(data, []byte("\n"))
	for _, text := range slices.Backward(lines) {
		event, ok := decodeEvent(text)
		switch {
		case !ok || event.PromptLine == 0:
		case event.PromptLine <= line:
			return true
		default:
			*found = append(*found, event)
		}
	}
	return false
}

// readEnd is the last of a file, at most limit bytes of it.
func readEnd(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-limit)
	return io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
}
