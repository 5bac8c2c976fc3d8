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

// Tail reads the lines of a log file and its rotated files, oldest first, and continues where it stopped. It neither skips nor
// repeats a line when files are rotated, removed, truncated or recreated, with two exceptions: a file that is rotated and removed
// between two reads, and one that is truncated and grows beyond its former size in between.
type Tail struct {
	path string
	// Finished files stay open: as long as one is, the kernel gives its inode number to no other file.
	finished []*os.File
	queued   []*os.File // newer than current, oldest first
	current  *os.File
	offset   int64
}

// newTail makes a tail of the log file at path, which need not exist. It must be closed.
func newTail(path string) *Tail { return &Tail{path: path} }

// Close closes the files.
func (t *Tail) Close() {
	for _, file := range slices.Concat(t.finished, t.queued, []*os.File{t.current}) {
		if file != nil {
			file.Close()
		}
	}
	t.finished, t.queued, t.current = nil, nil, nil
}

// Read returns the whole lines that were added since the last call, without line ends.
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
		// The current file has been rotated. Nobody writes to it any more, but lines may have been added since the last read.
		more, err = t.readNewLines(true)
		lines = append(lines, more...)
		if err != nil {
			return lines, err
		}
		t.advance()
	}
}

// advance makes the next queued file the current one.
func (t *Tail) advance() {
	if t.current != nil {
		t.finished = append(t.finished, t.current)
	}
	t.current, t.queued, t.offset = t.queued[0], t.queued[1:], 0
}

// readNewLines returns the whole lines after offset. isFinal says that the file is not written to any more: then a last line
// without a line end counts too.
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

// queueNewerFiles queues the files that have not been read, and reports whether there are any. It opens them from the newest name
// to the oldest, the direction in which they are renamed: one that is rotated meanwhile is opened twice, but not missed.
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

// highestRotation returns the highest number of a rotated file, 0 if there is none.
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

// isKnown reports whether the file is open already.
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

// closeUnlinked closes the finished files that have been removed.
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
