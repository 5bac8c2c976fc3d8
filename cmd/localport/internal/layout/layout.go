// Package layout fits tables and paragraphs into a number of columns.
package layout

import (
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// Width returns how many columns a text takes on a terminal, without escaping.
func Width(s string) int {
	if isASCII(s) { // the other way takes 50 times as long
		return len(s)
	}
	return text.StringWidth(s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clean returns a text as it is printed, on one line: control characters are escaped, and a tab, whose width depends on its column, is a blank.
func clean(s string) string { return output.EscapeLine(strings.ReplaceAll(s, "\t", " ")) }

// Truncate returns a text if it fits into width columns, else its beginning and "…".
func Truncate(s string, width int) string { return TruncateLine(output.PlainLine(s), width).String() }

// TruncateLine returns a line if it fits into width columns, else its beginning and "…".
func TruncateLine(line output.Line, width int) output.Line {
	if Width(clean(line.String())) <= width {
		return line
	}
	var cut output.Line
	left := width - Width("…")
	for _, span := range line {
		head, tail := split(clean(span.Text), left)
		left -= Width(head)
		if tail != "" && width > 0 {
			return append(cut, output.Span{Style: span.Style, Text: head + "…"})
		}
		cut = append(cut, output.Span{Style: span.Style, Text: head})
	}
	return cut
}

// split splits a text so that the first part takes at most width columns.
func split(s string, width int) (head, tail string) {
	used := 0
	for i, r := range s {
		if used += text.RuneWidth(r); used > width {
			return s[:i], s[i:]
		}
	}
	return s, ""
}
