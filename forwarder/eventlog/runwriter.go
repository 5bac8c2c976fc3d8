package eventlog

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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
		line = escapeControls(strings.TrimRight(line, "\r\n"))
		b.WriteString(formatLine(now, detectLevel(line), r.id, line))
	}
	r.file.appendText(b.String())
	return len(p), nil
}

// escapeControls escapes control characters and invalid UTF-8: the output of far ends gets into the log, which is printed to
// terminals unchanged.
func escapeControls(text string) string {
	isUnsafe := func(r rune) bool { return unicode.IsControl(r) && r != '\t' || r == utf8.RuneError }
	if !strings.ContainsFunc(text, isUnsafe) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		if !isUnsafe(r) {
			b.WriteRune(r)
			continue
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		for _, c := range []byte(text[i : i+size]) {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
