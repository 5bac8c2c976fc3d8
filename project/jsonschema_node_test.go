package project

import (
	"encoding/json"
	"iter"
	"strconv"
	"strings"
	"testing"
)

// schemaNode is the part of a schema that names keys and their defaults.
type schemaNode struct {
	Default    any
	Properties map[string]schemaNode
}

// leaves yields the keys that are no tables, by path.
func (n schemaNode) leaves(prefix string) iter.Seq2[string, schemaNode] {
	return func(yield func(string, schemaNode) bool) {
		for name, inner := range n.Properties {
			if len(inner.Properties) == 0 {
				if !yield(prefix+name, inner) {
					return
				}
				continue
			}
			for path, leaf := range inner.leaves(prefix + name + ".") {
				if !yield(path, leaf) {
					return
				}
			}
		}
	}
}

// isOfCheck reports whether only some types of check have the key. Their defaults come from the same table as the schema.
func (schemaNode) isOfCheck(path string) bool {
	name, ok := strings.CutPrefix(path, healthCheckKey+".")
	var h HealthCheck
	f, _ := findField(builtInOptions().healthCheckFields(&h), name, CheckTCP)
	return ok && f.types != nil
}

func formatTOML(value any) string {
	if text, ok := value.(string); ok {
		return strconv.Quote(text)
	}
	text, _ := json.Marshal(value)
	return string(text)
}

func decodeJSON(t *testing.T, text string, target any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), target); err != nil {
		t.Fatal(err)
	}
}
