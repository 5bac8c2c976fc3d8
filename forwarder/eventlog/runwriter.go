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

// Write appends one or more lines. Only the text is masked, not the level: a secret may be "INFO".
func (r runWriter) Write(p []byte) (int, error) {
	now := time.Now()
	var b strings.Builder
	for line := range strings.Lines(r.file.mask(string(p))) {
		// The output of far ends gets into the log, which is printed to terminals unchanged.
		line = printable.EscapeLine(strings.TrimRight(line, "\r\n"))
		b.WriteString(formatLine(now, detectLevel(line), r.id, line))
	}
	r.file.appendText(b.String())
	return len(p), nil
}
