package output

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/printable"
)

// Writer is a command's stdout or stderr. It escapes all control characters except line breaks and tabs. It is not safe for concurrent
// use.
type Writer struct {
	file io.Writer
	// partial is the beginning of a character whose other bytes come with the next Write.
	partial    []byte
	isColored  bool  // set by SetColor
	hasWritten bool  // something was written without an error
	err        error // the first of writing
}

// NewWriter returns a Writer to a file.
func NewWriter(file io.Writer) *Writer { return &Writer{file: file} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	data := p
	if len(w.partial) > 0 {
		data = append(w.partial, p...)
	}
	end := len(data) - partialLength(data)
	w.partial = bytes.Clone(data[end:])
	if err := w.writeFile(printable.EscapeBytes(data[:end])); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeFile writes to the file, and keeps the first error for Err.
func (w *Writer) writeFile(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	var err error
	if file, ok := w.file.(*os.File); ok {
		err = writeAll(file, data)
	} else {
		_, err = w.file.Write(data)
	}
	w.err = cmp.Or(w.err, err)
	w.hasWritten = w.hasWritten || err == nil
	return err
}

// writeAll writes data to a file. A pipe without a reader is an error, also of stdout and stderr, where (*os.File).Write raises SIGPIPE. (To catch
// the signal, as CatchBrokenPipe does, costs a thread: 0.4 of the 4 ms of CPU that a command takes.)
func writeAll(file *os.File, data []byte) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var writeErr error
	err = conn.Write(func(fd uintptr) (isDone bool) {
		for len(data) > 0 {
			n, err := unix.Write(int(fd), data)
			data = data[max(n, 0):]
			switch {
			case errors.Is(err, unix.EAGAIN):
				return false
			case err != nil && !errors.Is(err, unix.EINTR):
				writeErr = &os.PathError{Op: "write", Path: file.Name(), Err: err}
				return true
			}
		}
		return true
	})
	return cmp.Or(writeErr, err)
}

// CatchBrokenPipe makes every write to a pipe without a reader return EPIPE, also those to os.Stdout and os.Stderr. A program that exec runs does
// not inherit that.
var CatchBrokenPipe = sync.OnceFunc(func() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) })

// HasWritten reports whether something was written without an error.
func (w *Writer) HasWritten() bool { return w.hasWritten }

// Err returns the first error of writing to the file through this Writer or the one of Data; nil if there was none.
func (w *Writer) Err() error { return w.err }

// Flush writes an incomplete character that Write has kept back.
func (w *Writer) Flush() error {
	data := printable.EscapeBytes(w.partial)
	w.partial = nil
	return w.writeFile(data)
}

// partialLength returns the number of bytes at the end of data that may be the beginning of a character.
func partialLength(data []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(data)); n++ {
		if tail := data[len(data)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// File returns the file itself, for a program that is given the terminal, and for our own escape sequences.
func (w *Writer) File() io.Writer {
	CatchBrokenPipe()
	return w.file
}

// Data returns where to write what programs read: the file itself, unescaped, unless it is a terminal.
func (w *Writer) Data() io.Writer {
	if w.IsTerminal() {
		return w
	}
	return dataWriter{w}
}

// dataWriter writes to the file of a Writer without escaping.
type dataWriter struct{ w *Writer }

func (d dataWriter) Write(p []byte) (int, error) {
	if err := d.w.writeFile(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// IsTerminal reports whether the file is a terminal.
func (w *Writer) IsTerminal() bool {
	columns, _ := w.Size()
	return columns > 0
}

// Columns and rows of a terminal that does not know its own size, such as a serial line.
const defaultColumns, defaultRows = 80, 24

// Size returns the columns and rows of the terminal; 0, 0 if the file is not a terminal.
func (w *Writer) Size() (columns, rows int) {
	file, ok := w.file.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return cmp.Or(int(size.Col), defaultColumns), cmp.Or(int(size.Row), defaultRows)
}

// EscapeLine returns text as one line with control characters escaped.
func EscapeLine(text string) string { return printable.EscapeLine(text) }

// JSONText returns text for JSON, which has no bytes that are not UTF-8: such text is escaped as on a terminal.
func JSONText(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return printable.EscapeLine(text)
}

// EscapeText returns text with control characters escaped, all but line breaks and tabs.
func EscapeText(text string) string { return printable.EscapeText(text) }

// JoinLines joins the lines of a text with "; " and escapes control characters.
func JoinLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return printable.EscapeLine(strings.Join(lines, "; "))
}

// Info prints a message of one line.
func Info(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, "localport:", printable.EscapeLine(fmt.Sprintf(format, args...)))
}

// Warn prints a warning of one line.
func Warn(w io.Writer, text string) { Info(w, "warning: %s", JoinLines(text)) }

// DescribeState returns the predicate of a sentence about a service in this state: "failed", "is unhealthy".
func DescribeState(state forwarder.State) string {
	switch state {
	case forwarder.NeedsAttention:
		return "needs attention"
	case forwarder.Failed:
		return "failed"
	}
	return "is " + string(state)
}

// JSON prints a value as indented JSON.
func JSON(w io.Writer, value any) error { return writeJSON(w, value, "  ") }

// JSONLine prints a value as JSON on one line.
func JSONLine(w io.Writer, value any) error { return writeJSON(w, value, "") }

func writeJSON(w io.Writer, value any, indent string) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := w.Write(printable.EscapeJSON(b.Bytes()))
	return err
}
