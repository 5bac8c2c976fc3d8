// Package eventlog is what a project's supervisor writes down: a log for each service, one of its own, and the events.
// Files are bounded in size and in age, secrets are masked on their way in, and a disk that takes nothing never stops
// a forward.
package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits bound the files of a journal. What is zero is as Defaults has it.
type Limits struct {
	MaxSize    int64         // bytes: a file that would grow beyond is put aside as NAME.1, the one before as NAME.2
	MaxRotated int           // how many of those put aside are kept
	MaxAge     time.Duration // how long after its last line a file is kept; whole files go, never single lines
}

// DefaultLimits are the limits where the user says nothing.
var DefaultLimits = Limits{MaxSize: 4 << 20, MaxRotated: 3, MaxAge: 7 * 24 * time.Hour}

func (l Limits) withDefaults() Limits {
	if l.MaxSize <= 0 {
		l.MaxSize = DefaultLimits.MaxSize
	}
	if l.MaxRotated <= 0 {
		l.MaxRotated = DefaultLimits.MaxRotated
	}
	if l.MaxAge <= 0 {
		l.MaxAge = DefaultLimits.MaxAge
	}
	return l
}

// isExpired reports whether a file's last line was written too long ago.
func (l Limits) isExpired(info fs.FileInfo) bool { return time.Since(info.ModTime()) > l.MaxAge }

// File is one journal file, appended to in whole lines. It is safe for concurrent use, and several processes may
// append to the same file. An error of the disk is kept to itself: the lines are counted, and the first line that can
// be written again says how many were lost and why.
type File struct {
	path       string
	mask       func(string) string
	lossNotice func(lost int, why error) string

	mu             sync.Mutex
	limits         Limits
	file           *os.File    // nil: closed
	info           fs.FileInfo // of the file that was open last
	lostLines      int         // lines
	lossCause      error
	hasPartialLine bool // the last line was written in part
	redirectsStdio bool // standard output and error come along
}

// NewFile is the journal file at path. Nothing is made before the first line is written; then too what is too old is
// removed. Everything that goes through Write, Run and Handler is masked; a nil mask changes nothing.
func NewFile(path string, mask func(string) string, limits Limits) *File {
	if mask == nil {
		mask = strings.Clone
	}
	return &File{path: path, mask: mask, lossNotice: lostLinesNotice, limits: limits.withDefaults()}
}

func lostLinesNotice(lost int, cause error) string {
	return formatLine(time.Now(), "WARN", "-", fmt.Sprintf("%d lines were lost: %v", lost, cause))
}

// SetLimits changes the limits; they count from the next line on.
func (f *File) SetLimits(limits Limits) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limits = limits.withDefaults()
}

// RedirectStdio makes standard output and error of this process lead to the file from now on where they lead to it, to one
// that it was put aside as, or to one that was removed. A panic is then found in the log. Else those descriptors would
// follow the file that they were opened as from name to name until it is removed, and the panic with it; so do those
// of a keeper, which the next supervisor inherits.
func (f *File) RedirectStdio() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.redirectsStdio = true
	if err := f.prepare(0); err != nil {
		f.countLost("", err)
	}
}

// Write appends one or more whole lines. It never fails.
func (f *File) Write(p []byte) (int, error) {
	f.appendText(f.mask(string(p)))
	return len(p), nil
}

// Close closes the file; a later line opens it again.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}

// appendText appends text, which is masked, or counts its lines as lost.
func (f *File) appendText(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.prepare(len(text)); err != nil {
		f.countLost(text, err)
		return
	}
	if f.lostLines > 0 && f.writeText(f.lossNotice(f.lostLines, f.lossCause)) != nil {
		f.countLost(text, f.lossCause)
		return
	}
	f.lostLines = 0
	if err := f.writeText(text); err != nil {
		f.countLost(text, err)
	}
}

// writeText writes text, after the end of a line that was written in part.
func (f *File) writeText(text string) error {
	if f.hasPartialLine {
		text = "\n" + text
	}
	n, err := f.file.WriteString(text)
	if n > 0 {
		f.hasPartialLine = !strings.HasSuffix(text[:n], "\n")
	}
	return err
}

func (f *File) countLost(text string, err error) {
	f.lostLines += strings.Count(text, "\n")
	f.lossCause = err
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		f.lossCause = errno
	}
}

// prepare makes the open file the one at path, with room for more bytes. It looks each time: the file may have been
// removed, or put aside by another process.
func (f *File) prepare(size int) error {
	info, err := os.Stat(f.path)
	isFull := err == nil && info.Size() > 0 && info.Size()+int64(size) > f.limits.MaxSize
	switch {
	case isFull:
		err = rotate(f.path, f.limits)
	case f.file == nil:
		err = pruneRotated(f.path, f.limits)
	case err == nil && os.SameFile(info, f.info):
		return nil
	default:
		err = nil
	}
	if err != nil {
		return err
	}
	return f.reopen()
}

// reopen opens the file at path in place of the one that is open.
func (f *File) reopen() error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	if f.info != nil && !os.SameFile(f.info, info) {
		f.hasPartialLine = false
	}
	if f.redirectsStdio {
		redirectStdio(f.path, file)
	}
	if f.file != nil {
		f.file.Close()
	}
	f.file, f.info = file, info
	return nil
}
