package output

import (
	"cmp"
	"os"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/printable"
)

// Style says how a terminal with colours shows a text.
type Style int

// The styles.
const (
	Plain     Style = iota
	Heading         // titles
	Faint           // what is not in use
	Success         // what works
	Progress        // what is being tried
	Attention       // what only a person can change
	Failure         // what has failed
)

// sgr are the parameters of the control sequence "select graphic rendition" (ECMA-48, 8.3.117) for each style.
var sgr = [...]string{Heading: "1", Faint: "2", Success: "32", Progress: "33", Attention: "35;1", Failure: "31"}

// Sequence returns the control sequence that begins the style; empty for Plain. "\x1b[m" ends it.
func (s Style) Sequence() string {
	if s == Plain {
		return ""
	}
	return "\x1b[" + sgr[s] + "m"
}

// StateStyle returns the style in which a state is shown.
func StateStyle(state forwarder.State) Style {
	switch state {
	case forwarder.Healthy, forwarder.Idle:
		return Success
	case forwarder.Starting, forwarder.Restarting:
		return Progress
	case forwarder.NeedsAttention:
		return Attention
	case forwarder.Unhealthy, forwarder.Failed:
		return Failure
	case forwarder.Stopped:
		return Faint
	}
	return Plain
}

// Span is a part of a line in one style. Its text may come from anywhere: it is escaped when it is printed.
type Span struct {
	Style Style
	Text  string
}

// Line is a line of output.
type Line []Span

// PlainLine returns a line in the style Plain.
func PlainLine(text string) Line { return Line{{Text: text}} }

// String returns the text without styles.
func (l Line) String() string {
	var b strings.Builder
	for _, span := range l {
		b.WriteString(span.Text)
	}
	return b.String()
}

// encode returns the line for a terminal: escaped, without blanks at its end, and with control sequences if isColored is set.
func (l Line) encode(isColored bool) string {
	var b strings.Builder
	visible := len(strings.TrimRight(l.String(), " "))
	for _, span := range l {
		text := span.Text[:min(len(span.Text), visible)]
		visible -= len(text)
		text = printable.EscapeLine(text)
		if isColored && span.Style != Plain && text != "" {
			text = span.Style.Sequence() + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	return b.String()
}

// ColorMode says when colours are used.
type ColorMode string

// The modes. ColorAuto follows NO_COLOR (no-color.org), CLICOLOR_FORCE and CLICOLOR (bixense.com/clicolors), and otherwise uses colours on
// terminals, except on those named "dumb".
const (
	ColorAuto   ColorMode = "auto"
	ColorAlways ColorMode = "always"
	ColorNever  ColorMode = "never"
)

// SetColor sets when PrintLines and Encode use colours; before, they use none.
func (w *Writer) SetColor(mode ColorMode) { w.isColored = mode.isColored(w.IsTerminal(), os.Getenv) }

// IsColored reports whether PrintLines and Encode use colours.
func (w *Writer) IsColored() bool { return w.isColored }

func (m ColorMode) isColored(isTerminal bool, getenv func(string) string) bool {
	switch {
	case m != ColorAuto:
		return m == ColorAlways
	case getenv("NO_COLOR") != "":
		return false
	case cmp.Or(getenv("CLICOLOR_FORCE"), "0") != "0":
		return true
	}
	return isTerminal && getenv("TERM") != "dumb" && getenv("CLICOLOR") != "0"
}

// Encode returns a line as PrintLines prints it, without its line end.
func (w *Writer) Encode(line Line) string { return line.encode(w.isColored) }

// PrintLines prints lines.
func (w *Writer) PrintLines(lines []Line) error {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(w.Encode(line) + "\n")
	}
	return w.writeFile([]byte(b.String()))
}
