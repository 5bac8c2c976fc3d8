package eventlog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Tail reads a journal from its oldest line on, and goes on where it stopped: past files that are put aside, removed,
// truncated and made again it loses no line and repeats none. Only what was put aside and removed between two reads
// is lost, and a file that was truncated and has grown beyond where it was.
type Tail struct {
	path string
	// Files stay open after they have been read: as long as one is, its identity is not given to another file.
	finished []*os.File
	queued   []*os.File // newer than now, the oldest first
	current  *os.File
	offset   int64
}

// NewTail is a tail of the journal at path, which need not exist.
func NewTail(path string) *Tail { return &Tail{path: path} }

// Close closes the files.
func (t *Tail) Close() {
	for _, file := range slices.Concat(t.finished, t.queued, []*os.File{t.current}) {
		if file != nil {
			file.Close()
		}
	}
	t.finished, t.queued, t.current = nil, nil, nil
}

// Read returns the whole lines that were added since the last call, without their ends.
func (t *Tail) Read() (lines []string, err error) {
	for {
		more, err := t.readNewLines(false)
		lines = append(lines, more...)
		if err != nil {
			return lines, err
		}
		if len(t.queued) == 0 && !t.queueNewerFiles() {
			return lines, nil
		}
		// Whoever put the file aside writes to it no more, but may have done so since it was drained.
		more, err = t.readNewLines(true)
		lines = append(lines, more...)
		if err != nil {
			return lines, err
		}
		t.advance()
	}
}

// advance goes on to the next file.
func (t *Tail) advance() {
	if t.current != nil {
		t.finished = append(t.finished, t.current)
	}
	t.current, t.queued, t.offset = t.queued[0], t.queued[1:], 0
}

// readNewLines takes the whole lines behind offset; at the end of a file that is done with, also one that has no end.
func (t *Tail) readNewLines(isFinal bool) ([]string, error) {
	if t.current == nil {
		return nil, nil
	}
	info, err := t.current.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < t.offset {
		t.offset = 0
	}
	data, err := io.ReadAll(io.NewSectionReader(t.current, t.offset, info.Size()-t.offset))
	if err != nil {
		return nil, err
	}
	if !isFinal {
		data = data[:bytes.LastIndexByte(data, '\n')+1]
	}
	t.offset += int64(len(data))
	if len(data) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// queueNewerFiles queues the files that are newer than what was read, and reports whether there are any. It goes from the newest
// name to the oldest, which is the way in which files move: one that is moved meanwhile is met twice, but not missed.
func (t *Tail) queueNewerFiles() bool {
	if info, err := os.Stat(t.path); err == nil && t.current != nil && isSameFile(t.current, info) {
		return false
	}
	highest := t.highestRotation()
	for n, missing := 0, 0; n <= highest || missing < 2; n++ {
		file, err := os.Open(rotatedName(t.path, n))
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			break
		}
		missing = 0
		if t.isKnown(file) {
			file.Close()
		} else {
			t.queued = append(t.queued, file)
		}
	}
	slices.Reverse(t.queued)
	t.closeUnlinked()
	return len(t.queued) > 0
}

// highestRotation is the highest number of a file put aside.
func (t *Tail) highestRotation() int {
	highest := 0
	_ = forEachFile(filepath.Dir(t.path), func(name string, n int, _ fs.FileInfo) error {
		if name == filepath.Base(t.path) {
			highest = max(highest, n)
		}
		return nil
	})
	return highest
}

// isKnown reports whether the file was opened before.
func (t *Tail) isKnown(file *os.File) bool {
	info, err := file.Stat()
	if err != nil {
		return false
	}
	for _, other := range slices.Concat(t.finished, t.queued, []*os.File{t.current}) {
		if other != nil && isSameFile(other, info) {
			return true
		}
	}
	return false
}

// closeUnlinked closes the files read that have no name any more.
func (t *Tail) closeUnlinked() {
	t.finished = slices.DeleteFunc(t.finished, func(file *os.File) bool {
		if info, err := file.Stat(); err == nil && !isUnlinked(info) {
			return false
		}
		file.Close()
		return true
	})
}

func isSameFile(file *os.File, info fs.FileInfo) bool {
	own, err := file.Stat()
	return err == nil && os.SameFile(own, info)
}
