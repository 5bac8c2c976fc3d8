package layout

import (
	"strings"
	"unicode/utf8"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// Wrap breaks a line between words so that it fits into width columns, and words only where one is longer than that. The lines after the first are
// indented by indent columns. A width of 0 stands for no limit.
func Wrap(line output.Line, width, indent int) []output.Line {
	w := wrapper{width: width, indent: min(indent, max(width/4, 0))}
	for _, span := range line {
		span.Text = clean(span.Text)
		if width <= 0 {
			w.line = append(w.line, span)
			continue
		}
		for _, part := range strings.SplitAfter(span.Text, " ") {
			w.addWord(output.Span{Style: span.Style, Text: part})
		}
	}
	return append(w.lines, w.line)
}

// WrapText is Wrap for a text without styles. The lines have no blanks at their ends.
func WrapText(s string, width int) []string {
	lines := Wrap(output.PlainLine(s), width, 0)
	texts := make([]string, len(lines))
	for i, line := range lines {
		texts[i] = strings.TrimRight(line.String(), " ")
	}
	return texts
}

type wrapper struct {
	width, indent int
	lines         []output.Line
	line          output.Line // the last one
	used          int         // its columns
}

// addWord adds a word and the blank after it, if any.
func (w *wrapper) addWord(word output.Span) {
	length := Width(strings.TrimRight(word.Text, " "))
	if w.used+length > w.width && w.used > w.startOfLine() {
		w.breakLine()
	}
	for w.used+length > w.width {
		head, tail := split(word.Text, w.width-w.used)
		if head == "" { // a wide character does not fit into a single column
			_, size := utf8.DecodeRuneInString(tail)
			head, tail = tail[:size], tail[size:]
		}
		w.line = append(w.line, output.Span{Style: word.Style, Text: head})
		w.breakLine()
		word.Text, length = tail, Width(strings.TrimRight(tail, " "))
	}
	w.line = append(w.line, word)
	w.used += Width(word.Text)
}

func (w *wrapper) startOfLine() int {
	if len(w.lines) == 0 {
		return 0
	}
	return w.indent
}

func (w *wrapper) breakLine() {
	w.lines = append(w.lines, w.line)
	w.line, w.used = output.Line{{Text: strings.Repeat(" ", w.indent)}}, w.indent
}
