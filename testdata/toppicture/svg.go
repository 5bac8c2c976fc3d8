package main

import (
	"fmt"
	"html"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// The size of a character cell, and of the window around the cells, in pixels.
const (
	cellWidth  = 8.4
	cellHeight = 19
	fontSize   = 14
	margin     = 16
	titleBar   = 30
)

// theme has the colours of the window, and those of SGR 30 to 37.
var theme = struct {
	background, bar, foreground string
	colors                      [8]string
}{
	"#16181d", "#22252c", "#d7dae0",
	[8]string{"#3b4048", "#ff7a85", "#8fd18a", "#e8c268", "#74b2f8", "#cf8ef0", "#5fc8d6", "#d7dae0"},
}

// cellStyle is how a cell is drawn.
type cellStyle struct {
	color                int // of SGR 30 to 37, less 30; -1: the default
	bold, faint, inverse bool
}

// segment are neighbouring cells of one style.
type segment struct {
	cellStyle
	column, width int
	text          string // empty: only the background
}

// writeSVG returns the lines of a terminal, with their SGR sequences, as a picture.
func writeSVG(lines []string, columns int) string {
	width := float64(columns)*cellWidth + 2*margin
	height := len(lines)*cellHeight + 2*margin + titleBar
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" role="img" aria-label="localport top in a terminal">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<style>text{font:%dpx ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;fill:%s;white-space:pre}.b{font-weight:bold}.f{opacity:.6}</style>`+"\n",
		fontSize, theme.foreground)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="%s"/><path d="M0 8a8 8 0 0 1 8-8h%.0fa8 8 0 0 1 8 8v22H0z" fill="%s"/>`+"\n", theme.background, width-16, theme.bar)
	for i, color := range []string{theme.colors[1], theme.colors[3], theme.colors[2]} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="15" r="6" fill="%s"/>`+"\n", 18+20*i, color)
	}
	for row, line := range lines {
		for _, r := range parseLine(line) {
			b.WriteString(r.svg(margin + titleBar + row*cellHeight))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (r segment) svg(top int) string {
	x, fill := margin+float64(r.column)*cellWidth, theme.foreground
	if r.color >= 0 {
		fill = theme.colors[r.color]
	}
	if r.inverse && r.text == "" {
		return fmt.Sprintf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x, top, float64(r.width)*cellWidth, cellHeight, fill)
	}
	if r.inverse {
		fill = theme.background
	}
	class := ""
	switch {
	case r.bold:
		class = ` class="b"`
	case r.faint:
		class = ` class="f"`
	}
	style := ""
	if fill != theme.foreground {
		style = fmt.Sprintf(` style="fill:%s"`, fill)
	}
	// textLength keeps the columns aligned whatever the font is.
	return fmt.Sprintf(`<text x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s%s xml:space="preserve">%s</text>`+"\n",
		x, top+14, float64(r.width)*cellWidth, class, style, html.EscapeString(r.text))
}

// parseLine splits a line into segments without blanks at their ends. Before inverse ones is an empty one with their background.
func parseLine(line string) (segments []segment) {
	current, column := cellStyle{color: -1}, 0
	for line != "" {
		if parameters, rest, ok := cutSGR(line); ok {
			current, line = current.with(parameters), rest
			continue
		}
		part := line
		if end := strings.Index(line[1:], "\x1b["); end >= 0 {
			part = line[:end+1]
		}
		line = line[len(part):]
		width := text.StringWidthWithoutEscSequences(part)
		if current.inverse {
			segments = append(segments, segment{current, column, width, ""})
		}
		segments = append(segments, segment{current, column, width, part}.split()...)
		column += width
	}
	return segments
}

// split divides text at wide gaps, so that each piece starts in its own column.
func (r segment) split() []segment {
	var pieces []segment
	column := r.column
	for _, piece := range strings.SplitAfter(r.text, "  ") {
		width := text.StringWidthWithoutEscSequences(piece)
		if trimmed := strings.TrimRight(piece, " "); trimmed != "" {
			lead := len(trimmed) - len(strings.TrimLeft(trimmed, " "))
			shown := trimmed[lead:]
			pieces = append(pieces, segment{r.cellStyle, column + lead, text.StringWidthWithoutEscSequences(shown), shown})
		}
		column += width
	}
	return pieces
}

// cutSGR cuts the sequence that begins the line.
func cutSGR(line string) (parameters, rest string, ok bool) {
	body, found := strings.CutPrefix(line, "\x1b[")
	if !found {
		return "", line, false
	}
	return strings.Cut(body, "m")
}

// with returns the style after SGR parameters. Only those that top uses, and tmux repeats, are known.
func (s cellStyle) with(parameters string) cellStyle {
	for parameter := range strings.SplitSeq(parameters, ";") {
		n, _ := strconv.Atoi(parameter)
		switch {
		case n == 0:
			s = cellStyle{color: -1}
		case n == 1:
			s.bold = true
		case n == 2:
			s.faint = true
		case n == 7:
			s.inverse = true
		case n == 22:
			s.bold, s.faint = false, false
		case n == 27:
			s.inverse = false
		case n >= 30 && n <= 37:
			s.color = n - 30
		case n == 39:
			s.color = -1
		}
	}
	return s
}
