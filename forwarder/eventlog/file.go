// Package eventlog writes and reads a project's log directory: a log file for each service, one for the supervisor, and the
// events. Files are limited in size and age, secrets are masked before they are written, and an error of the disk never stops a
// forward.
package eventlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits limit a log file and its rotated files. A field that is zero has its value in DefaultLimits.
type Limits struct {
	MaxSize    int64         // in bytes: a file that would grow larger is renamed to NAME.1, and NAME.1 to NAME.2
	MaxRotated int           // number of rotated files
	MaxAge     time.Duration // since a file's last line; files are removed as a whole
}

// DefaultLimits apply unless the user's config says otherwise.
var DefaultLimits = Limits{MaxSize: 4 << 20, MaxRotated: 3, MaxAge: 7 * 24 * time.Hour}

func (l Limits) withDefaults() Limits {
	l.MaxSize = cmp.Or(max(0, l.MaxSize), DefaultLimits.MaxSize)
	l.MaxRotated = cmp.Or(max(0, l.MaxRotated), DefaultLimits.MaxRotated)
	l.MaxAge = cmp.Or(max(0, l.MaxAge), DefaultLimits.MaxAge)
	return l
}

// isExpired reports whether a file's last line is older than MaxAge.
func (l Limits) isExpired(info fs.FileInfo) bool { return time.Since(info.ModTime()) > l.MaxAge }

// File is a log file to which whole lines are appended. It is safe for concurrent use, and several processes may append to the
// same file. It returns no error of the disk: it counts the lines that it could not write, and writes their number and the cause
// before the next line that it can write.
type File struct {
	path       string
	mask       func(string) string
	lossNotice func(lost int, cause error) string

	mu             sync.Mutex
	limits         Limits
	file           *os.File    // nil: closed
	info           fs.FileInfo // of the file that was opened last
	lostLines      int         // since the last line that could be written
	lossCause      error
	hasPartialLine bool // the last line was written in part
	redirectsStdio bool // set by RedirectStdio
}

// NewFile makes the writer of the log file at path. The file is created, and expired rotated files are removed, when the first
// line is written. mask is applied to all that is written through Write, RunWriter and Handler; nil masks nothing.
func NewFile(path string, mask func(string) string, limits Limits) *File {
	if mask == nil {
		mask = strings.Clone
	}
	return &File{path: path, mask: mask, lossNotice: lostLinesNotice, limits: limits.withDefaults()}
}

func lostLinesNotice(lost int, cause error) string {
	return formatLine(time.Now(), "WARN", "-", fmt.Sprintf("%d lines lost: %v", lost, cause))
}

// SetLimits changes the limits from the next line on.
func (f *File) SetLimits(limits Limits) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limits = limits.withDefaults()
}

// RedirectStdio makes standard output and error of this process follow the log file across rotations, if they refer to it, to a
// rotated file or to a removed one. So a panic is always written to the current file. Without it the descriptors, which a
// supervisor may inherit from a keeper, stay with the file that was opened first until that is removed, and the panic with it.
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

// appendText appends text that is already masked, or counts its lines as lost.
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

// writeText writes text, and first ends a line that was written in part.
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

// prepare makes sure that the open file is the one at path, and rotates it if size more bytes exceed the limit. It checks before
// each line: the file may have been removed, or rotated by another process.
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

// reopen opens the file at path and closes the previous one.
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
