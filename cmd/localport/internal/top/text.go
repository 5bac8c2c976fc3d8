package top

import (
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
)

// style is the style of a text, as an SGR sequence (ECMA-48, 8.3.117). Only the 16 colours that a terminal's theme defines are used.
type style string

const (
	plain    style = ""
	bold     style = "\x1b[1m"
	dim      style = "\x1b[2m"
	inverse  style = "\x1b[7m"
	boldCyan style = "\x1b[1;36m"
)

// The styles that have the same meaning as in the output of other commands.
var (
	green       = style(output.Success.Sequence())
	yellow      = style(output.Progress.Sequence())
	boldMagenta = style(output.Attention.Sequence())
	red         = style(output.Failure.Sequence())
)

const resetStyle = "\x1b[m"

func (s style) paint(shown string) string {
	if s == plain || shown == "" {
		return shown
	}
	return string(s) + shown + resetStyle
}

// clean returns text of other programs as one line without anything that a terminal acts on.
func clean(foreign string) string { return strings.ReplaceAll(output.JoinLines(foreign), "\t", " ") }

// columns returns how many columns a text with styles takes.
func columns(styled string) int { return text.StringWidthWithoutEscSequences(styled) }

// fit returns a text with styles in exactly width columns: shortened with "…", or filled up with blanks.
func fit(styled string, width int) string {
	if width <= 0 {
		return ""
	}
	taken := columns(styled)
	if taken > width {
		styled, taken = truncate(styled, width)
	}
	return styled + strings.Repeat(" ", max(0, width-taken))
}

// truncate returns the beginning of a text with styles and "…", in at most width columns, and how many these are.
func truncate(styled string, width int) (string, int) {
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

// fitRight is fit with the text at the right.
func fitRight(styled string, width int) string {
	styled = strings.TrimRight(fit(styled, width), " ")
	return strings.Repeat(" ", max(0, width-columns(styled))) + styled
}

// wrap breaks text without styles between words, or within words that are too long, into lines of at most width columns.
func wrap(plainText string, width int) []string {
	width = max(width, 2) // a wide character must fit
	var lines []string
	line, taken := "", 0
	for word := range strings.FieldsSeq(plainText) {
		if line != "" && taken+1+columns(word) <= width {
			line, taken = line+" "+word, taken+1+columns(word)
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line, taken = "", 0
		for _, r := range word {
			if taken+text.RuneWidth(r) > width {
				lines = append(lines, line)
				line, taken = "", 0
			}
			line, taken = line+string(r), taken+text.RuneWidth(r)
		}
	}
	return append(lines, line)
}

// stateStyle is the style of a service's state, the same as in "localport status". The text says the same.
func stateStyle(svc api.ServiceStatus) style {
	return style(output.StateStyle(svc.EffectiveState()).Sequence())
}

// toASCII replaces what this package draws. Other text stays.
var toASCII = strings.NewReplacer(
	"▁", ".", "▂", ".", "▃", ":", "▄", ":", "▅", "+", "▆", "+", "▇", "#", "█", "#", "…", "~", "─", "-", "│", "|", "▸", ">", "·", "-", "→", ">", "↓", "v", "↑", "^",
)

// withoutColors keeps only bold, faint and inverse text (https://no-color.org).
var withoutColors = strings.NewReplacer(string(boldCyan), string(bold), string(boldMagenta), string(bold), string(red), "", string(green), "", string(yellow), "")
