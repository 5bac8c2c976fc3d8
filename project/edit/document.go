package edit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML file as a sequence of blocks, which are whole lines.
type document struct {
	bom     []byte // before the text
	text    []byte
	lineEnd string // "\n" or "\r\n", whichever most lines have
	blocks  []block
}

type blockKind int

const (
	blank      blockKind = iota // a line with white space only
	comment                     // a line with a comment only
	keyValue                    // a key with its value, which may take several lines
	table                       // a header: [table]
	arrayTable                  // a header: [[table]]
)

// block is the lines of one thing in a file.
type block struct {
	kind       blockKind
	start, end int      // offsets; the line end is included
	key        []string // from the root of the file; nil for blanks and comments
	table      []string // of a keyValue: the key of the table that it stands in

	keyEnd                         int  // of a header
	keyStart, valueStart, valueEnd int  // of a keyValue
	isInline                       bool // of a keyValue: the value is an inline table
	items                          []item
}

// item is an item of an array of strings.
type item struct {
	text       string
	start, end int
}

func (b block) isHeader() bool { return b.kind == table || b.kind == arrayTable }

var byteOrderMark = []byte("\ufeff")

// SyntaxError says that a text is not TOML.
type SyntaxError struct{ Err error }

func (e *SyntaxError) Error() string { return e.Err.Error() }

func (e *SyntaxError) Unwrap() error { return e.Err }

func parse(text []byte) (*document, error) {
	d := &document{text: bytes.TrimPrefix(text, byteOrderMark)}
	d.bom = text[:len(text)-len(d.text)]
	d.text = slices.Clip(d.text) // the parser finds offsets by capacities
	if _, err := decode(d.text); err != nil {
		return nil, &SyntaxError{err}
	}
	d.lineEnd = "\n"
	if crlf := bytes.Count(d.text, []byte("\r\n")); 2*crlf > bytes.Count(d.text, []byte("\n")) {
		d.lineEnd = "\r\n"
	}
	d.readBlocks()
	return d, nil
}

// readBlocks divides the text into blocks.
func (d *document) readBlocks() {
	p := unstable.Parser{KeepComments: true}
	p.Reset(d.text)
	var inTable []string
	for p.NextExpression() {
		b := d.readBlock(p.Expression(), inTable)
		d.addBlanks(b.start)
		d.blocks = append(d.blocks, b)
		if b.isHeader() {
			inTable = b.key
		}
	}
	d.addBlanks(len(d.text))
}

// addBlanks adds the blank lines between the last block and the offset of the next one.
func (d *document) addBlanks(next int) {
	at := 0
	if n := len(d.blocks); n > 0 {
		at = d.blocks[n-1].end
	}
	for at < next {
		end := d.lineEndAfter(at)
		d.blocks = append(d.blocks, block{kind: blank, start: at, end: end})
		at = end
	}
}

func (d *document) readBlock(expr *unstable.Node, inTable []string) block {
	switch expr.Kind {
	case unstable.Comment:
		start, end := int(expr.Raw.Offset), int(expr.Raw.Offset+expr.Raw.Length)
		return block{kind: comment, start: d.lineStart(start), end: d.lineEndAfter(end)}
	case unstable.KeyValue:
		return d.readKeyValue(expr, inTable)
	}
	kind := table
	if expr.Kind == unstable.ArrayTable {
		kind = arrayTable
	}
	names, first, last := keyNames(expr.Key())
	return block{kind: kind, start: d.lineStart(first), end: d.lineEndAfter(last), key: names, keyEnd: last}
}

func (d *document) readKeyValue(expr *unstable.Node, inTable []string) block {
	names, first, last := keyNames(expr.Key())
	end := int(expr.Raw.Offset + expr.Raw.Length)
	equals := last + bytes.IndexByte(d.text[last:], '=') // only white space precedes it
	value := bytes.TrimLeft(d.text[equals+1:end], " \t")
	b := block{
		kind: keyValue, start: d.lineStart(first), end: d.lineEndAfter(end), key: slices.Concat(inTable, names), table: inTable,
		keyStart: first, valueStart: end - len(value), valueEnd: end, isInline: expr.Value().Kind == unstable.InlineTable,
	}
	if expr.Value().Kind == unstable.Array {
		for items := expr.Value().Children(); items.Next(); {
			if n := items.Node(); n.Kind == unstable.String {
				b.items = append(b.items, item{text: string(n.Data), start: int(n.Raw.Offset), end: int(n.Raw.Offset + n.Raw.Length)})
			}
		}
	}
	return b
}

// keyNames returns the parts of a key, and the offsets at which it begins and ends.
func keyNames(keys unstable.Iterator) (names []string, start, end int) {
	start = -1
	for keys.Next() {
		n := keys.Node()
		names = append(names, string(n.Data))
		if start < 0 {
			start = int(n.Raw.Offset)
		}
		end = int(n.Raw.Offset + n.Raw.Length)
	}
	return names, start, end
}

// lineStart returns the offset of the beginning of the line of an offset.
func (d *document) lineStart(offset int) int { return 1 + bytes.LastIndexByte(d.text[:offset], '\n') }

// lineEndAfter returns the offset after the end of the line of an offset.
func (d *document) lineEndAfter(offset int) int {
	if n := bytes.IndexByte(d.text[offset:], '\n'); n >= 0 {
		return offset + n + 1
	}
	return len(d.text)
}

// line returns the number of the line of an offset, from 1.
func (d *document) line(offset int) int { return 1 + bytes.Count(d.text[:offset], []byte("\n")) }

func (d *document) unsupportedAt(offset int, reason, advice string) *UnsupportedSyntaxError {
	start := d.lineStart(offset)
	indent := len(d.text[start:]) - len(bytes.TrimLeft(d.text[start:], " \t"))
	return &UnsupportedSyntaxError{Line: d.line(offset), Col: max(offset, start+indent) - start + 1, Reason: reason, Advice: advice}
}

// withLineEnds returns text with the line ends of the file.
func (d *document) withLineEnds(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.ReplaceAll(text, "\n", d.lineEnd)
}

// nextHeader returns the index of the first header after a block; the number of blocks if there is none.
func (d *document) nextHeader(after int) int {
	if n := slices.IndexFunc(d.blocks[after+1:], block.isHeader); n >= 0 {
		return after + 1 + n
	}
	return len(d.blocks)
}

// leadingComments returns the index of the first of the comments directly above a block; its own if there are none. A directive to programs,
// such as "#:schema FILE", is about the whole file.
func (d *document) leadingComments(of int) int {
	for of > 0 && d.blocks[of-1].kind == comment && !d.isDirective(of-1) {
		of--
	}
	return of
}

func (d *document) isDirective(at int) bool {
	b := d.blocks[at]
	return bytes.HasPrefix(bytes.TrimLeft(d.text[b.start:b.end], " \t"), []byte("#:"))
}

func decode(text []byte) (map[string]any, error) {
	var values map[string]any
	err := toml.Unmarshal(text, &values)
	if values == nil {
		values = make(map[string]any)
	}
	return values, err
}

// hasValue reports whether the file has a value at a key.
func (d *document) hasValue(key ...string) bool {
	var value any
	value, _ = decode(d.text)
	for _, name := range key {
		members, _ := value.(map[string]any)
		if value = members[name]; value == nil {
			return false
		}
	}
	return true
}

// decodeService returns the value of a service that checkTable has accepted.
func decodeService(name, table string) any {
	values, _ := decode([]byte(table))
	services, _ := values["services"].(map[string]any)
	return services[name]
}

// checkTable returns an error unless table is the text of exactly this service.
func checkTable(name, table string) error {
	values, err := decode([]byte(table))
	if err != nil {
		return &SyntaxError{err}
	}
	services, _ := values["services"].(map[string]any)
	if _, isTable := services[name].(map[string]any); !isTable || len(values) != 1 || len(services) != 1 {
		return fmt.Errorf("the text is not the table of service %q", name)
	}
	return nil
}
