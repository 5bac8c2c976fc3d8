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
	read   []*os.File
	queue  []*os.File // newer than now, the oldest first
	now    *os.File
	offset int64
}

// NewTail is a tail of the journal at path, which need not exist.
func NewTail(path string) *Tail { return &Tail{path: path} }

// Close closes the files.
func (t *Tail) Close() {
	for _, file := range slices.Concat(t.read, t.queue, []*os.File{t.now}) {
		if file != nil {
			file.Close()
		}
	}
	t.read, t.queue, t.now = nil, nil, nil
}

// Read returns the whole lines that were added since the last call, without their ends.
func (t *Tail) Read() (lines []string, err error) {
	for {
		more, err := t.drain(false)
		lines = append(lines, more...)
		if err != nil {
			return lines, err
		}
		if len(t.queue) == 0 && !t.look() {
			return lines, nil
		}
		// Whoever put the file aside writes to it no more, but may have done so since it was drained.
		more, err = t.drain(true)
		lines = append(lines, more...)
		if err != nil {
			return lines, err
		}
		t.next()
	}
}

// next goes on to the next file.
func (t *Tail) next() {
	if t.now != nil {
		t.read = append(t.read, t.now)
	}
	t.now, t.queue, t.offset = t.queue[0], t.queue[1:], 0
}

// drain takes the whole lines behind offset; at the end of a file that is done with, also one that has no end.
func (t *Tail) drain(done bool) ([]string, error) {
	if t.now == nil {
		return nil, nil
	}
	info, err := t.now.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < t.offset {
		t.offset = 0
	}
	data, err := io.ReadAll(io.NewSectionReader(t.now, t.offset, info.Size()-t.offset))
	if err != nil {
		return nil, err
	}
	if !done {
		data = data[:bytes.LastIndexByte(data, '\n')+1]
	}
	t.offset += int64(len(data))
	if len(data) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// look queues the files that are newer than what was read, and reports whether there are any. It goes from the newest
// name to the oldest, which is the way in which files move: one that is moved meanwhile is met twice, but not missed.
func (t *Tail) look() bool {
	if info, err := os.Stat(t.path); err == nil && t.now != nil && same(t.now, info) {
		return false
	}
	most := t.most()
	for n, missing := 0, 0; n <= most || missing < 2; n++ {
		file, err := os.Open(aside(t.path, n))
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			break
		}
		missing = 0
		if t.known(file) {
			file.Close()
		} else {
			t.queue = append(t.queue, file)
		}
	}
	slices.Reverse(t.queue)
	t.forget()
	return len(t.queue) > 0
}

// most is the highest number of a file put aside.
func (t *Tail) most() int {
	most := 0
	_ = eachFile(filepath.Dir(t.path), func(name string, n int, _ fs.FileInfo) error {
		if name == filepath.Base(t.path) {
			most = max(most, n)
		}
		return nil
	})
	return most
}

// known reports whether the file was opened before.
func (t *Tail) known(file *os.File) bool {
	info, err := file.Stat()
	if err != nil {
		return false
	}
	for _, other := range slices.Concat(t.read, t.queue, []*os.File{t.now}) {
		if other != nil && same(other, info) {
			return true
		}
	}
	return false
}

// forget closes the files read that have no name any more.
func (t *Tail) forget() {
	t.read = slices.DeleteFunc(t.read, func(file *os.File) bool {
		if info, err := file.Stat(); err == nil && !removed(info) {
			return false
		}
		file.Close()
		return true
	})
}

func same(file *os.File, info fs.FileInfo) bool {
	own, err := file.Stat()
	return err == nil && os.SameFile(own, info)
}
