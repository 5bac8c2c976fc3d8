package edit

import (
	"bytes"
	"slices"
)

// region is a stretch of blocks: from first to before end.
type region struct{ first, end int }

// serviceRegions returns what belongs to a service, in order.
func (d *document) serviceRegions(name string) []region {
	key := []string{"services", name}
	var regions []region
	for i := 0; i < len(d.blocks); i++ {
		b := d.blocks[i]
		switch {
		case !hasPrefix(b.key, key):
		case b.isHeader():
			r := region{d.leadingComments(i), d.tableEnd(i)}
			regions = d.addRegion(regions, r)
			i = r.end - 1
		default:
			regions = d.addRegion(regions, region{d.leadingComments(i), i + 1})
		}
	}
	return regions
}

// tableEnd returns the index after the last block of the table whose header is at an index: its last key, and comments directly below that which
// are not directly above the next header.
func (d *document) tableEnd(header int) int {
	next := d.nextHeader(header)
	end := next
	for end > header+1 && d.blocks[end-1].kind != keyValue {
		end--
	}
	withComments := end
	for withComments < next && d.blocks[withComments].kind == comment {
		withComments++
	}
	if withComments == next && next < len(d.blocks) {
		return end
	}
	return withComments
}

// addRegion appends a region, or extends the last one if only blanks and comments are between them.
func (d *document) addRegion(regions []region, r region) []region {
	if n := len(regions); n > 0 {
		last := &regions[n-1]
		isContent := func(b block) bool { return b.kind != blank && b.kind != comment }
		if r.first <= last.end || !slices.ContainsFunc(d.blocks[last.end:r.first], isContent) {
			last.end = r.end
			return regions
		}
	}
	return append(regions, r)
}

// removal returns the change that removes a region, with the blank lines that separate it from what follows, or from what precedes it at the end of the
// file.
func (d *document) removal(r region) change {
	isBlankAt := func(i int) bool { return d.blocks[i].kind == blank }
	if r.first == 0 || isBlankAt(r.first-1) {
		for r.end < len(d.blocks) && isBlankAt(r.end) {
			r.end++
		}
	}
	if r.end == len(d.blocks) {
		for r.first > 0 && isBlankAt(r.first-1) {
			r.first--
		}
	}
	return change{start: d.blocks[r.first].start, end: d.blocks[r.end-1].end}
}

// RemoveEmptyTable returns the config text without the header of a table, if the table has no members. Its comments stay, and so does the one on the
// line of the header.
func RemoveEmptyTable(text []byte, name string) ([]byte, error) {
	d, err := parse(text)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(d.blocks, func(b block) bool { return b.kind == table && slices.Equal(b.key, []string{name}) })
	values, _ := decode(d.text)
	if members, _ := values[name].(map[string]any); at < 0 || len(members) > 0 {
		return text, nil
	}
	return d.splice([]change{d.headerRemoval(at)}, func(values map[string]any) { delete(values, name) })
}

// headerRemoval returns the change that removes a header.
func (d *document) headerRemoval(at int) change {
	b := d.blocks[at]
	if comment := bytes.IndexByte(d.text[b.keyEnd:b.end], '#'); comment >= 0 {
		return change{start: b.start, end: b.keyEnd + comment}
	}
	return d.removal(region{at, at + 1})
}

// IsEmpty reports whether a config text has no keys: it is empty, or has comments only.
func IsEmpty(text []byte) bool {
	d, err := parse(text)
	return err == nil && !slices.ContainsFunc(d.blocks, func(b block) bool { return b.kind == keyValue })
}
