// Package yamlfile reads YAML files of other tools with the line of each value, for messages about it.
package yamlfile

import (
	"bytes"
	"iter"
	"slices"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/localport-sh/localport/project"
)

// Node is a value of a file, with its line. The zero Node stands for a value that is not there.
type Node struct{ node *yaml.Node }

// maxAliases bounds how many aliases are followed: an alias may lead to itself.
const maxAliases = 32

// Parse returns the root of the first document. The error is a *FormatError.
func Parse(data []byte) (Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return Node{}, explain(data, err)
	}
	if len(document.Content) == 0 {
		return Node{}, nil
	}
	return resolve(document.Content[0]), nil
}

// explain returns what is wrong with a file that the parser has refused.
func explain(data []byte, err error) *FormatError {
	if at := bytes.IndexFunc(data, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f }); at >= 0 || !utf8.Valid(data) {
		line := 0
		if at >= 0 {
			line = 1 + bytes.Count(data[:at], []byte("\n"))
		}
		return &FormatError{line, "a control character, or text that is not UTF-8", "YAML is text: check that this is the right file, and save it as UTF-8"}
	}
	if mistake := findMistake(string(data)); mistake != nil {
		return mistake
	}
	mistake := &FormatError{Reason: "it is not YAML: its indentation, quotes or brackets do not match", Advice: `compare it with an example: keys "name: value", lists "- item", both indented by spaces`}
	if match := linePattern().FindStringSubmatch(err.Error()); match != nil {
		mistake.Line, _ = strconv.Atoi(match[1])
		mistake.Reason = "it is not YAML: in this line or the next ones, indentation, quotes or brackets do not match"
	}
	return mistake
}

var linePattern = project.LazyRegexp(`line ([0-9]+):`)

// maxMerges bounds how deep merged mappings may merge others.
const maxMerges = 4

// resolve follows aliases.
func resolve(node *yaml.Node) Node {
	for range maxAliases {
		if node == nil || node.Kind != yaml.AliasNode {
			return Node{node}
		}
		node = node.Alias
	}
	return Node{}
}

// Exists reports whether there is a value other than null.
func (n Node) Exists() bool {
	return n.node != nil && (n.node.Kind != yaml.ScalarNode || n.node.ShortTag() != "!!null")
}

// Line returns the line of the value, from 1; 0 if there is none.
func (n Node) Line() int {
	if n.node == nil {
		return 0
	}
	return n.node.Line
}

// Describe says what kind of value it is.
func (n Node) Describe() string {
	switch {
	case n.IsMapping():
		return "a mapping"
	case n.IsSequence():
		return "a list"
	case !n.Exists():
		return "empty"
	}
	return "a single value"
}

// IsMapping reports whether the value has keys.
func (n Node) IsMapping() bool { return n.node != nil && n.node.Kind == yaml.MappingNode }

// IsSequence reports whether the value is a list.
func (n Node) IsSequence() bool { return n.node != nil && n.node.Kind == yaml.SequenceNode }

// IsScalar reports whether the value is a string, a number, a boolean or a date.
func (n Node) IsScalar() bool { return n.Exists() && n.node.Kind == yaml.ScalarNode }

// Text returns a scalar as it is written; empty for any other value.
func (n Node) Text() string {
	if !n.IsScalar() {
		return ""
	}
	return n.node.Value
}

// WithText returns a scalar with another text, on the same line.
func (n Node) WithText(text string) Node {
	return Node{&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: n.Line()}}
}

// Items returns the values of a list.
func (n Node) Items() []Node {
	if !n.IsSequence() {
		return nil
	}
	items := make([]Node, len(n.node.Content))
	for i, item := range n.node.Content {
		items[i] = resolve(item)
	}
	return items
}

// Entry is a key of a mapping and its value.
type Entry struct {
	Key   string
	Line  int // of the key
	Value Node
}

// Entries returns the keys of a mapping in the order of the file. Keys that are merged in with "<<" come last, unless the mapping has them itself.
func (n Node) Entries() []Entry { return n.entries(maxMerges) }

func (n Node) entries(depth int) []Entry {
	if !n.IsMapping() || depth == 0 {
		return nil
	}
	var entries, merged []Entry
	for i := 0; i+1 < len(n.node.Content); i += 2 {
		key, value := n.node.Content[i], resolve(n.node.Content[i+1])
		if key.ShortTag() == "!!merge" {
			for source := range value.mergeSources() {
				merged = append(merged, source.entries(depth-1)...)
			}
			continue
		}
		entries = append(entries, Entry{key.Value, key.Line, value})
	}
	for _, entry := range merged {
		if !slices.ContainsFunc(entries, func(own Entry) bool { return own.Key == entry.Key }) {
			entries = append(entries, entry)
		}
	}
	return entries
}

// mergeSources yields the mappings of a "<<": one, or a list of them.
func (n Node) mergeSources() iter.Seq[Node] {
	if n.IsSequence() {
		return slices.Values(n.Items())
	}
	return slices.Values([]Node{n})
}

// Member returns the value of a key; the zero Node if there is none.
func (n Node) Member(key string) Node {
	for _, entry := range n.Entries() {
		if entry.Key == key {
			return entry.Value
		}
	}
	return Node{}
}
