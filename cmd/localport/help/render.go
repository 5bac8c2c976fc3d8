package help

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// renderer renders the part of Markdown that the topics use: headings, paragraphs, lists with "- ", tables, and code, fenced or indented.
type renderer struct {
	b       strings.Builder
	columns int
	bold    bool // use escape sequences
}

func (r *renderer) document(lines []string) {
	for i := 0; i < len(lines); {
		line := lines[i]
		switch {
		case strings.TrimSpace(line) == "":
			i++
			continue
		case strings.HasPrefix(line, "#"):
			r.startBlock()
			r.b.WriteString(r.emphasize(strings.TrimLeft(line, "# ")) + "\n")
			i++
		case strings.HasPrefix(line, "```"):
			n := count(lines[i+1:], func(line string) bool { return !strings.HasPrefix(line, "```") })
			r.code(lines[i+1 : i+1+n])
			i += n + 2
		case strings.HasPrefix(line, "    "):
			n := count(lines[i:], func(line string) bool { return strings.HasPrefix(line, "    ") })
			code := make([]string, n)
			for k := range code {
				code[k] = strings.TrimPrefix(lines[i+k], "    ")
			}
			r.code(code)
			i += n
		case strings.HasPrefix(line, "|"):
			n := count(lines[i:], func(line string) bool { return strings.HasPrefix(line, "|") })
			r.startBlock()
			r.table(lines[i : i+n])
			i += n
		case strings.HasPrefix(line, "- "):
			n := count(lines[i:], func(line string) bool { return strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "  ") })
			r.startBlock()
			r.list(lines[i : i+n])
			i += n
		default:
			n := count(lines[i:], isText)
			r.startBlock()
			r.paragraph("", "", strings.Join(lines[i:i+n], " "), r.columns)
			i += n
		}
	}
}

// count returns how many lines at the beginning fulfil a condition.
func count(lines []string, is func(string) bool) int {
	for i, line := range lines {
		if !is(line) {
			return i
		}
	}
	return len(lines)
}

// isText reports whether a line belongs to a paragraph.
func isText(line string) bool {
	return line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "```") && !strings.HasPrefix(line, "|") &&
		!strings.HasPrefix(line, "- ") && !strings.HasPrefix(line, "    ")
}

// startBlock separates two blocks.
func (r *renderer) startBlock() {
	if r.b.Len() > 0 {
		r.b.WriteByte('\n')
	}
}

func (r *renderer) code(lines []string) {
	r.startBlock()
	for _, line := range lines {
		r.b.WriteString(strings.TrimRight("  "+line, " ") + "\n")
	}
}

func (r *renderer) list(lines []string) {
	for len(lines) > 0 {
		n := 1 + count(lines[1:], func(line string) bool { return !strings.HasPrefix(line, "- ") })
		text := strings.TrimPrefix(lines[0], "- ")
		for _, line := range lines[1:n] {
			text += " " + strings.TrimSpace(line)
		}
		r.paragraph("- ", "  ", text, r.columns)
		lines = lines[n:]
	}
}

// paragraph writes text in lines of at most columns, the first one after first, the others after rest.
func (r *renderer) paragraph(first, rest, text string, columns int) {
	for i, line := range r.wrap(text, columns-utf8.RuneCountInString(first)) {
		if i > 0 {
			first = rest
		}
		r.b.WriteString(strings.TrimRight(first+line.text, " ") + "\n")
	}
}

// table writes a table without rules: its last column is wrapped, the others are as wide as their longest cell. If that leaves too little for the
// last column, each row is a list of its cells.
func (r *renderer) table(lines []string) {
	var rows [][]string
	for i, line := range lines {
		if i != 1 { // the rule
			rows = append(rows, splitRow(line))
		}
	}
	header := rows[0]
	if strings.Join(header, "") == "" {
		rows = rows[1:]
	}
	widths, indent := r.columnWidths(rows, len(header)-1)
	const least = 30 // columns for the last one
	if r.columns-indent < least {
		r.stackedTable(slices.DeleteFunc(rows, func(row []string) bool { return &row[0] == &header[0] }), header)
		return
	}
	for i, row := range rows {
		r.row(row, widths, indent, i == 0 && strings.Join(header, "") != "")
	}
}

// columnWidths returns the widths of the first n columns, and their sum with the space between them.
func (r *renderer) columnWidths(rows [][]string, n int) (widths []int, sum int) {
	widths = make([]int, n)
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], r.words(row[i]).width())
		}
		sum += widths[i] + 2
	}
	return widths, sum
}

// stackedTable writes each row as its first cell, and below it the others.
func (r *renderer) stackedTable(rows [][]string, header []string) {
	for _, row := range rows {
		r.paragraph("", "", row[0], r.columns)
		for i, cell := range row[1:] {
			if len(row) > 2 && cell != "" {
				cell = header[i+1] + ": " + cell
			}
			r.paragraph("    ", "    ", cell, r.columns)
		}
	}
}

func (r *renderer) row(row []string, widths []int, indent int, isHeader bool) {
	last := len(row) - 1
	var left strings.Builder
	for i, cell := range row[:last] {
		line := r.words(cell).join(r)
		left.WriteString(r.headerText(line.text, isHeader))
		left.WriteString(strings.Repeat(" ", widths[i]+2-line.width))
	}
	prefix := left.String()
	lines := r.wrap(row[last], r.columns-indent)
	if len(lines) == 0 {
		lines = []line{{}}
	}
	for _, line := range lines {
		r.b.WriteString(strings.TrimRight(prefix+r.headerText(line.text, isHeader), " ") + "\n")
		prefix = strings.Repeat(" ", indent)
	}
}

func (r *renderer) headerText(text string, isHeader bool) string {
	if isHeader {
		return r.emphasize(text)
	}
	return text
}

// splitRow returns the cells of a table's row. A bar in a cell is written as \|.
func splitRow(line string) []string {
	const escaped = "\x00"
	line = strings.ReplaceAll(strings.TrimSpace(line), `\|`, escaped)
	cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(strings.TrimSpace(cell), escaped, "|")
	}
	return cells
}
