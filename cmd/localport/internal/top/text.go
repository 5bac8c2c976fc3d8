package top

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
)

// style is how text looks, as an SGR sequence (ECMA-48, 8.3.117). Only the 16 colours that a terminal's theme defines are used.
type style string

const (
	plain    style = ""
	bold     style = "\x1b[1m"
	dim      style = "\x1b[2m"
	inverse  style = "\x1b[7m"
	red      style = "\x1b[31m"
	green    style = "\x1b[32m"
	yellow   style = "\x1b[33m"
	cyan     style = "\x1b[36m"
	boldCyan style = "\x1b[1;36m"
)

const resetStyle = "\x1b[m"

func (s style) paint(text string) string {
	if s == plain || text == "" {
		return text
	}
	return string(s) + text + resetStyle
}

// clean returns text of other programs as one line without anything that a terminal acts on.
func clean(text string) string { return strings.ReplaceAll(output.JoinLines(text), "\t", " ") }

// columns returns how many columns a text takes.
func columns(text string) int { return ansi.StringWidthWc(text) }

// fit returns text in exactly width columns: shortened with "…", or filled up with blanks.
func fit(text string, width int) string {
	if width <= 0 {
		return ""
	}
	if columns(text) > width {
		text = ansi.TruncateWc(text, width, "…")
	}
	return text + strings.Repeat(" ", max(0, width-columns(text)))
}

// fitRight is fit with the text at the right.
func fitRight(text string, width int) string {
	text = strings.TrimRight(fit(text, width), " ")
	return strings.Repeat(" ", max(0, width-columns(text))) + text
}

// wrap breaks text between words, or within words that are too long, into lines of at most width columns.
func wrap(text string, width int) []string {
	return strings.Split(ansi.WrapWc(text, max(width, 1), ""), "\n")
}

// stateStyle is the colour of a service's state. The text says the same.
func stateStyle(svc api.ServiceStatus) style {
	switch svc.EffectiveState() {
	case forwarder.Healthy:
		return green
	case forwarder.Idle:
		return cyan
	case forwarder.Starting, forwarder.Restarting:
		return yellow
	case forwarder.Unhealthy, forwarder.NeedsAttention, forwarder.Failed:
		return red
	}
	return dim
}

// toASCII replaces what this package draws. Other text stays.
var toASCII = strings.NewReplacer(
	"▁", ".", "▂", ".", "▃", ":", "▄", ":", "▅", "+", "▆", "+", "▇", "#", "█", "#", "…", "~", "─", "-", "│", "|", "▸", ">", "·", "-", "→", ">", "↓", "v", "↑", "^",
)
