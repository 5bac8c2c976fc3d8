package layout

import (
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
)

// Table is a table with a title above each column.
type Table struct {
	Titles []string
	Rows   [][]output.Span // each has a cell for each title
	// Reductions are what is done, in this order, to a table that is too wide.
	Reductions []Reduction
}

// Reduction makes a table narrower: it shortens the texts of a column to no less than MinWidth, or leaves the column out if MinWidth is 0.
type Reduction struct {
	Title    string
	MinWidth int
}

const columnGap = "  "

// Lines returns the table's lines, the titles first. None is wider than width; a width of 0 stands for no limit.
func (t Table) Lines(width int) []output.Line {
	columns := t.fit(width)
	titles := make([]output.Span, len(t.Titles))
	for i, title := range t.Titles {
		titles[i] = output.Span{Style: output.Heading, Text: title}
	}
	lines := []output.Line{formatRow(titles, columns)}
	for _, row := range t.Rows {
		lines = append(lines, formatRow(row, columns))
	}
	if width > 0 {
		for i := range lines {
			lines[i] = TruncateLine(lines[i], width)
		}
	}
	return lines
}

// column is a column of a table as it is printed.
type column struct {
	width     int // of its widest cell
	minWidth  int // to which it may be shortened
	isLeftOut bool
}

// fit returns the columns with which the table fits into width, or all reductions have been made.
func (t Table) fit(width int) []column {
	columns := make([]column, len(t.Titles))
	for i, title := range t.Titles {
		columns[i].width = Width(title)
		for _, row := range t.Rows {
			columns[i].width = max(columns[i].width, Width(clean(row[i].Text)))
		}
		columns[i].minWidth = columns[i].width
	}
	if width <= 0 {
		return columns
	}
	for _, reduction := range t.Reductions {
		if minTableWidth(columns) <= width {
			break
		}
		c := &columns[slices.Index(t.Titles, reduction.Title)]
		c.isLeftOut = reduction.MinWidth == 0
		c.minWidth = min(c.width, reduction.MinWidth)
	}
	shorten(columns, width)
	return columns
}

// minTableWidth returns the width of a table whose columns are as narrow as they may be.
func minTableWidth(columns []column) int {
	width := -len(columnGap)
	for _, c := range columns {
		if !c.isLeftOut {
			width += c.minWidth + len(columnGap)
		}
	}
	return max(width, 0)
}

// shorten makes columns narrower, the widest first, until the table fits into width.
func shorten(columns []column, width int) {
	excess := -len(columnGap) - width
	for _, c := range columns {
		if !c.isLeftOut {
			excess += c.width + len(columnGap)
		}
	}
	for ; excess > 0; excess-- {
		widest := -1
		for i, c := range columns {
			if !c.isLeftOut && c.width > c.minWidth && (widest < 0 || c.width > columns[widest].width) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		columns[widest].width--
	}
}

func formatRow(cells []output.Span, columns []column) output.Line {
	var line output.Line
	for i, c := range columns {
		if c.isLeftOut {
			continue
		}
		cell := cells[i]
		cell.Text = Truncate(clean(cell.Text), c.width)
		line = append(line, cell, output.Span{Text: strings.Repeat(" ", c.width-Width(cell.Text)) + columnGap})
	}
	return trimRight(line)
}

// trimRight removes the blanks after the last cell that has a text.
func trimRight(line output.Line) output.Line {
	for len(line) > 0 && strings.TrimSpace(line[len(line)-1].Text) == "" {
		line = line[:len(line)-1]
	}
	return line
}
