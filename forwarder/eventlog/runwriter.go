package eventlog

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/printable"
)

// RunWriter returns a writer for the output of the children of one run. Each line gets the time, the level that detectLevel finds,
// and the run's id. Control characters are escaped. Of a flood of short lines only a part is written, with a line that says how many are left out:
// what one line costs is many times what its bytes cost, and a log that is rotated keeps no more of them anyway.
func (f *File) RunWriter(id string) io.Writer { return &runWriter{file: f, id: id} }

type runWriter struct {
	file *File
	id   string

	mu    sync.Mutex // guards limit
	limit lineLimit
}

// maxPieceBytes is how much text is appended at once, if a log file may be larger: files are rotated between pieces.
const maxPieceBytes = 64 << 10

// Write appends one or more lines. Only the text is masked, not the level: a secret may be "INFO".
func (r *runWriter) Write(p []byte) (int, error) {
	instant := time.Now()
	now, maxBytes := formatTime(instant), r.file.maxPiece()
	omitted, lines := r.limitLines(instant, p)
	var b strings.Builder
	if omitted > 0 {
		writeLine(&b, now, "WARN", "-", fmt.Sprintf("%d short lines are left out: the program prints more than %d a second", omitted, linesPerSecond))
	}
	text := r.file.mask(string(lines))
	b.Grow(min(maxBytes, len(text)+bytes.Count(lines, []byte("\n"))*(len(now)+len(r.id)+len(" ERROR  \n"))))
	for line := range strings.Lines(text) {
		// The output of far ends gets into the log, which is printed to terminals unchanged.
		line = printable.EscapeLine(strings.TrimRight(line, "\r\n"))
		level := detectLevel(line)
		if length := len(now) + len(level) + len(r.id) + len(line) + len("   \n"); b.Len() > 0 && b.Len()+length > maxBytes {
			r.file.appendText(b.String())
			b.Reset()
		}
		writeLine(&b, now, level, r.id, line)
	}
	r.file.appendText(b.String())
	return len(p), nil
}

func (r *runWriter) limitLines(now time.Time, lines []byte) (omitted int, kept []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.limit.apply(now, lines)
}

// maxPiece returns how much text of a run is appended at once.
func (f *File) maxPiece() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int(min(maxPieceBytes, f.limits.MaxSize/4))
}
