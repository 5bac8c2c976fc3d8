package layout

import (
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
)

// A styled text holds SGR sequences (ECMA-48, 8.3.117), which take no columns, and nothing else that a terminal acts on.

const resetStyle = "\x1b[m"

// StyledWidth returns how many columns a styled text takes.
func StyledWidth(styled string) int { return text.StringWidthWithoutEscSequences(styled) }

// Fit returns a styled text in exactly width columns: shortened with "…", or filled up with blanks.
func Fit(styled string, width int) string {
	if width <= 0 {
		return ""
	}
	taken := StyledWidth(styled)
	if taken > width {
		styled, taken = truncateStyled(styled, width)
	}
	return styled + strings.Repeat(" ", max(0, width-taken))
}

// FitRight is Fit with the text at the right.
func FitRight(styled string, width int) string {
	styled = strings.TrimRight(Fit(styled, width), " ")
	return strings.Repeat(" ", max(0, width-StyledWidth(styled))) + styled
}

// truncateStyled returns the beginning of a styled text and "…", in at most width columns, and how many these are.
func truncateStyled(styled string, width int) (string, int) {
	taken, end := 0, 0
	for end < len(styled) {
		if length := styleLength(styled[end:]); length > 0 {
			end += length
			continue
		}
		r, size := utf8.DecodeRuneInString(styled[end:])
		if taken+text.RuneWidth(r) > width-1 {
			break
		}
		taken, end = taken+text.RuneWidth(r), end+size
	}
	shortened := styled[:end] + "…"
	if strings.Contains(shortened, "\x1b") {
		shortened += resetStyle
	}
	return shortened, taken + 1
}

// styleLength returns the length of the SGR sequence that begins the text; 0 if none does.
func styleLength(styled string) int {
	if !strings.HasPrefix(styled, "\x1b[") {
		return 0
	}
	return strings.IndexByte(styled, 'm') + 1
}
