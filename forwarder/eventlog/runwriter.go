package eventlog

import (
	"io"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/printable"
)

// RunWriter returns a writer for the output of the children of one run. Each line gets the time, the level that detectLevel finds,
// and the run's id. Control characters are escaped.
func (f *File) RunWriter(id string) io.Writer { return runWriter{f, id} }

type runWriter struct {
	file *File
	id   string
}

// maxPieceBytes is how much text is appended at once, if a log file may be larger: files are rotated between pieces.
const maxPieceBytes = 64 << 10

// Write appends one or more lines. Only the text is masked, not the level: a secret may be "INFO".
func (r runWriter) Write(p []byte) (int, error) {
	now, maxBytes := formatTime(time.Now()), r.file.maxPiece()
	var b strings.Builder
	for line := range strings.Lines(r.file.mask(string(p))) {
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

// maxPiece returns how much text of a run is appended at once.
func (f *File) maxPiece() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int(min(maxPieceBytes, f.limits.MaxSize/4))
}
