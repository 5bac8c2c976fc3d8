package top

import (
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/layout"
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

// wrap breaks text without styles between words, or within words that are too long, into lines of at most width columns.
func wrap(plainText string, width int) []string {
	return layout.WrapText(strings.Join(strings.Fields(plainText), " "), max(width, 2)) // a wide character must fit
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
