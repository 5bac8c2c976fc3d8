package edit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project/draft"
)

// SetKey returns the config text with a key set to a value, which is TOML: `"text"`, 5432, ["a", "b"]. An existing value is replaced. A new key becomes
// the last of its table, which is added where it is missing. Values in inline tables are not edited.
func SetKey(text []byte, key []string, value string) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	if err := d.checkNotInline(key, fmt.Sprintf("write %s = %s there", draft.QuoteKey(key[len(key)-1]), value)); err != nil {
		return nil, err
	}
	value = d.withLineEnds(value)
	decoded, err := decode([]byte("value = " + value))
	if err != nil || len(decoded) != 1 {
		return nil, fmt.Errorf("%s is not a value", value)
	}
	return d.splice([]change{d.keyChange(key, value)}, func(values map[string]any) {
		tableAt(values, key[:len(key)-1])[key[len(key)-1]] = decoded["value"]
	})
}

// RemoveKey returns the config text without a key and the comments directly above it.
func RemoveKey(text []byte, key []string) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	if err := d.checkNotInline(key, fmt.Sprintf("remove %s there", draft.QuoteKey(key[len(key)-1]))); err != nil {
		return nil, err
	}
	at := d.findKey(key)
	if at < 0 {
		return nil, ErrNotFound
	}
	return d.splice([]change{d.keyRemoval(at)}, func(values map[string]any) { delete(tableAt(values, key[:len(key)-1]), key[len(key)-1]) })
}

// RemoveItem returns the config text without a string in an array. A key whose array would be empty is removed.
func RemoveItem(text []byte, key []string, name string) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	if err := d.checkNotInline(key, fmt.Sprintf("remove %q from %s there", name, draft.QuoteKey(key[len(key)-1]))); err != nil {
		return nil, err
	}
	at := d.findKey(key)
	if at < 0 {
		return nil, ErrNotFound
	}
	items := d.blocks[at].items
	isNamed := func(i item) bool { return i.text == name }
	switch found := slices.IndexFunc(items, isNamed); {
	case found < 0:
		return nil, ErrNotFound
	case !slices.ContainsFunc(items, func(i item) bool { return !isNamed(i) }):
		return RemoveKey(text, key)
	default:
		text, err = d.splice([]change{itemRemoval(items, found)}, func(values map[string]any) {
			table, last := tableAt(values, key[:len(key)-1]), key[len(key)-1]
			list, _ := table[last].([]any)
			table[last] = slices.Delete(slices.Clone(list), found, found+1)
		})
		if err != nil || !slices.ContainsFunc(items[found+1:], isNamed) {
			return text, err
		}
		return RemoveItem(text, key, name)
	}
}

// itemRemoval returns the change that removes an item with the comma after it or, if it is the last, the one before it.
func itemRemoval(items []item, at int) change {
	if at+1 < len(items) {
		return change{start: items[at].start, end: items[at+1].start}
	}
	return change{start: items[at-1].end, end: items[at].end}
}

// tableAt returns the table at a key of decoded values, which is made where it is missing.
func tableAt(values map[string]any, key []string) map[string]any {
	for _, name := range key {
		inner, ok := values[name].(map[string]any)
		if !ok {
			inner = make(map[string]any)
			values[name] = inner
		}
		values = inner
	}
	return values
}

func (d *document) findKey(key []string) int {
	return slices.IndexFunc(d.blocks, func(b block) bool { return b.kind == keyValue && slices.Equal(b.key, key) })
}

// checkNotInline returns a *UnsupportedSyntaxError if a key stands in an inline table.
func (d *document) checkNotInline(key []string, advice string) error {
	for n := 1; n < len(key); n++ {
		if at := d.findInline(key[:n]...); at >= 0 {
			return d.unsupportedAt(d.blocks[at].valueStart, joinKey(key[:n])+" is an inline table", advice)
		}
	}
	return nil
}

// keyRemoval returns the change that removes the lines of a key.
func (d *document) keyRemoval(at int) change {
	return change{start: d.blocks[d.leadingComments(at)].start, end: d.blocks[at].end}
}

// keyChange returns the change that sets a key.
func (d *document) keyChange(key []string, value string) change {
	if at := d.findKey(key); at >= 0 {
		return change{start: d.blocks[at].valueStart, end: d.blocks[at].valueEnd, text: value}
	}
	inTable, last := key[:len(key)-1], key[len(key)-1]
	isInTable := func(b block) bool { return slices.Equal(b.key[:max(0, len(b.key)-1)], inTable) }
	for i, b := range slices.Backward(d.blocks) {
		if b.kind == keyValue && isInTable(b) { // beside the last key of its table, written in the same way
			line := d.indentOf(i) + joinKey(key[len(b.table):]) + " = " + value
			return d.insertLine(i, line)
		}
	}
	header := slices.IndexFunc(d.blocks, func(b block) bool { return b.kind == table && slices.Equal(b.key, inTable) })
	switch {
	case header >= 0:
		return d.insertLine(header, d.indentOf(header)+draft.QuoteKey(last)+" = "+value)
	case len(inTable) == 0:
		return d.firstKeyChange(draft.QuoteKey(last) + " = " + value + d.lineEnd)
	default:
		text := "[" + joinKey(inTable) + "]" + d.lineEnd + draft.QuoteKey(last) + " = " + value + d.lineEnd
		return d.insertTable(d.newTableBlock(inTable), text)
	}
}

// insertLine returns the change that inserts a line after a block.
func (d *document) insertLine(after int, line string) change {
	b := d.blocks[after]
	if d.text[b.end-1] != '\n' {
		return change{start: b.end, end: b.end, text: d.lineEnd + line + d.lineEnd}
	}
	return change{start: b.end, end: b.end, text: line + d.lineEnd}
}

// firstKeyChange returns the change that inserts the first key of the file that is in no table: above the first table, below comments about the
// whole file.
func (d *document) firstKeyChange(line string) change {
	at := d.nextHeader(-1)
	if at == len(d.blocks) {
		if n := len(d.text); n > 0 && d.text[n-1] != '\n' {
			line = d.lineEnd + line
		}
		return change{start: len(d.text), end: len(d.text), text: line}
	}
	start := d.blocks[d.leadingComments(at)].start
	return change{start: start, end: start, text: line + d.lineEnd}
}

// newTableBlock returns the index of the block before which a new table is inserted: after the table that it is in, or at the end.
func (d *document) newTableBlock(key []string) int {
	for n := len(key) - 1; n >= 2; n-- { // beside its service
		last := -1
		for i, b := range d.blocks {
			if b.isHeader() && hasPrefix(b.key, key[:n]) {
				last = i
			}
		}
		if last >= 0 {
			if next := d.nextHeader(last); next < len(d.blocks) {
				return d.leadingComments(next)
			}
		}
	}
	return len(d.blocks)
}

// indentOf returns the white space before a block.
func (d *document) indentOf(at int) string {
	line := string(d.text[d.blocks[at].start:d.blocks[at].end])
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

// HasKey reports whether a config text, if it is TOML, has a value at a key.
func HasKey(text []byte, key ...string) bool {
	d, err := parse(text)
	return err == nil && d.hasValue(key...)
}
