package supervisor

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// logLimit is the size in bytes at which a log is put aside as NAME.1, replacing the one before.
const logLimit = 4 << 20

// logFile is one log, appended to line by line; secrets are masked on their way in. An error of the disk is kept to
// itself: a full disk must not stop a forward.
type logFile struct {
	path string
	mask func(string) string

	mu   sync.Mutex
	file *os.File
	size int64
}

func openLog(path string, mask func(string) string) *logFile { return &logFile{path: path, mask: mask} }

// Write appends one or more whole lines.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(len(p)); err == nil {
		n, _ := l.file.WriteString(l.mask(string(p)))
		l.size += int64(n)
	}
	return len(p), nil
}

// ready opens the file where it is not, and rotates it where it has grown too large.
func (l *logFile) ready(more int) error {
	if l.file != nil && l.size+int64(more) > logLimit {
		l.file.Close()
		l.file = nil
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return err
		}
	}
	if l.file != nil {
		return nil
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

// Close closes the file; a later Write opens it again.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	return file.Close()
}

// stamped gives every line the time and the run that it belongs to.
type stamped struct {
	to  io.Writer
	run string
}

func (s stamped) Write(p []byte) (int, error) {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	for line := range strings.Lines(string(p)) {
		if _, err := fmt.Fprintf(s.to, "%s %s %s\n", now, s.run, strings.TrimRight(line, "\r\n")); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
