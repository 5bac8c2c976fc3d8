package edit

import (
	"bytes"
	"reflect"
	"slices"
)

// change replaces a stretch of the text.
type change struct {
	start, end int
	text       string
}

// splice returns the text with the changes made, which must not overlap. It decodes the result and compares it with what expect makes of the values
// before: a change that would mean anything else is refused.
func (d *document) splice(changes []change, expect func(values map[string]any)) ([]byte, error) {
	slices.SortFunc(changes, func(a, b change) int { return a.start - b.start })
	var b bytes.Buffer
	b.Write(d.bom)
	at := 0
	for _, c := range changes {
		b.Write(d.text[at:c.start])
		b.WriteString(c.text)
		at = c.end
	}
	b.Write(d.text[at:])
	result := append([]byte{}, b.Bytes()...) // not nil if it is empty: the file is there
	want, err := decode(d.text)
	if err != nil {
		return nil, &SyntaxError{err}
	}
	expect(want)
	got, err := decode(result[len(d.bom):])
	if err != nil || !reflect.DeepEqual(withoutEmptyTables(want), withoutEmptyTables(got)) {
		return nil, d.unsupportedAt(changes[0].start, "this part of the file cannot be edited without changing other values", "make the change in an editor")
	}
	return result, nil
}

// withoutEmptyTables returns values without tables that have no keys: the last service takes its table "services" along, or leaves its header.
func withoutEmptyTables(values map[string]any) map[string]any {
	kept := make(map[string]any, len(values))
	for name, value := range values {
		members, isTable := value.(map[string]any)
		if !isTable {
			kept[name] = value
		} else if inner := withoutEmptyTables(members); len(inner) > 0 {
			kept[name] = inner
		}
	}
	return kept
}
