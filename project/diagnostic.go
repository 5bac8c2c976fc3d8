package project

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder/printable"
)

// Diagnostic is one error in a file, with its position. It holds no secret and no control character.
type Diagnostic struct {
	Path    string
	Line    int // from 1; 0: the file itself is meant
	Col     int // from 1, in bytes
	Message string
	Source  string // the line, with string values masked; empty if the file has no such line, or if it would not help
	// IsUnset: a variable is set nowhere. In another environment the file may be valid.
	IsUnset bool `json:",omitempty"`
}

// String returns "PATH:LINE:COL: MESSAGE", or "PATH: MESSAGE" without a line, and, on the next line, the quoted line of the file.
func (d Diagnostic) String() string {
	if d.Line == 0 {
		return d.Path + ": " + d.Message
	}
	text := fmt.Sprintf("%s:%d:%d: %s", d.Path, d.Line, d.Col, d.Message)
	if d.Source != "" {
		text += "\n    " + d.Source
	}
	return text
}

// InvalidError holds all errors in a project's files; a syntax error is the only one.
type InvalidError struct {
	Diagnostics []Diagnostic // by file, in the order in which they are read, and position; at least one
	Secrets     []string     // what must be masked where the files are shown, as far as it is known; no diagnostic has it
}

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Summary returns the first error on one line, and the number of the others.
func (e *InvalidError) Summary() string {
	first := e.Diagnostics[0]
	text := fmt.Sprintf("%s:%d:%d: %s", first.Path, first.Line, first.Col, first.Message)
	if more := len(e.Diagnostics) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// report collects errors. Their lines are quoted at the end, when every secret is known. A nil report ignores them.
type report struct {
	found []finding
}

// finding is an error whose line is not quoted yet.
type finding struct {
	node      *node
	offset    int
	message   string
	showValue bool // quote the value at offset unmasked, because it is what is wrong
	isUnset   bool // a variable is set nowhere
}

// reportValue reports that the value of n is wrong.
func (r *report) reportValue(n *node, format string, args ...any) {
	r.add(finding{node: n, offset: n.valueOffset, showValue: !n.isSecret && !n.mayAssignSecret(), message: fmt.Sprintf(format, args...)})
}

// reportKey reports that n should not be there, or lacks something.
func (r *report) reportKey(n *node, format string, args ...any) {
	r.add(finding{node: n, offset: n.keyOffset, message: fmt.Sprintf(format, args...)})
}

// reportHidden reports that the value of n is wrong, and quotes it masked.
func (r *report) reportHidden(n *node, format string, args ...any) {
	r.add(finding{node: n, offset: n.valueOffset, message: fmt.Sprintf(format, args...)})
}

// reportError reports what is wrong with the value of n, or with items in it, unless that has been reported.
func (r *report) reportError(n *node, err error) {
	items, ok := errors.AsType[itemErrors](err)
	if !ok && err != nil {
		items = itemErrors{{n, err}}
	}
	for _, item := range items {
		if !item.node.hasError {
			r.reportValue(item.node, "%v", item.err)
		}
	}
}

// reportUnresolved reports why the ${…} in the value of n cannot be resolved.
func (r *report) reportUnresolved(n *node, err error) {
	_, isUnset := errors.AsType[*missingVariableError](err)
	r.add(finding{node: n, offset: n.valueOffset, showValue: !n.isSecret, message: err.Error(), isUnset: isUnset})
}

func (r *report) add(f finding) {
	if r == nil {
		return
	}
	if path := f.node.path(); path != "" {
		f.message = shortenPath(path) + ": " + f.message
	}
	r.found = append(r.found, f)
}

// maxShownPath is how many bytes of a key's path are shown.
const maxShownPath = 300

func shortenPath(path string) string {
	if len(path) <= maxShownPath {
		return path
	}
	return strings.ToValidUTF8(path[:maxShownPath], "") + "…"
}

// diagnostics returns the findings, sorted by document and position.
func (r *report) diagnostics(secrets []string) []Diagnostic {
	slices.SortStableFunc(r.found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.node.doc.order, b.node.doc.order), cmp.Compare(a.offset, b.offset))
	})
	list := make([]Diagnostic, 0, len(r.found))
	for _, f := range r.found {
		list = append(list, f.diagnostic(secrets))
	}
	return slices.Compact(list)
}

func (f finding) diagnostic(secrets []string) Diagnostic {
	d := f.node.doc
	line, col := d.position(f.offset)
	shown := -1
	if f.showValue {
		shown = f.offset
	}
	return Diagnostic{
		Path: d.path, Line: line, Col: col,
		Message: printable.EscapeLine(f.message), Source: d.quoteLine(f.offset, shown, secrets), IsUnset: f.isUnset,
	}
}

// quoteMasked returns text for a message: masked, in quotes, and truncated.
func quoteMasked(text string, secrets []string) string {
	return strconv.Quote(printable.Truncate(Mask(maskParts(text), secrets), 60))
}
