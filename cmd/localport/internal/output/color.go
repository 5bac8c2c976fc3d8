package output

import (
	"fmt"
	"io"
	"os"

	"github.com/localport-sh/localport/forwarder/printable"
)

// Color is the parameter of the control sequence "select graphic rendition" (ECMA-48, 8.3.117); empty: the terminal's own colour.
type Color string

// The colours.
const (
	Bold  Color = "1"
	Red   Color = "31"
	Green Color = "32"
	Cyan  Color = "36"
)

// PrintColored prints a line, escaped. It is coloured only on a terminal, and not if NO_COLOR is set (no-color.org) or the terminal is "dumb".
func (w *Writer) PrintColored(color Color, text string) {
	columns, _ := w.Size()
	if color == "" || columns == 0 || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		fmt.Fprintln(w, printable.EscapeLine(text))
		return
	}
	_, _ = io.WriteString(w.File(), "\x1b["+string(color)+"m"+printable.EscapeLine(text)+"\x1b[0m\n")
}
