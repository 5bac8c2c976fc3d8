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

// maxRecentBytes is how many bytes from the end of the events a prompt reads: about a hundred events. A shell that was idle for
// longer misses the older ones.
const maxRecentBytes = 16 << 10

// EventsSince returns the events for prompts with a PromptLine above line, oldest first. It is called by prompts, and reads only
// the end of the files.
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

// appendNewer appends the events in data with a PromptLine above line, newest first, and reports whether data has one that is not above.
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

// readEnd returns the last bytes of a file, at most limit.
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
