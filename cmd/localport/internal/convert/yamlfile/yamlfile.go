// Package yamlfile reads YAML files of other tools with the line of each value, for messages about it.
package yamlfile

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Node is a value of a file, with its line. The zero Node stands for a value that is not there.
type Node struct{ node *yaml.Node }

// maxAliases bounds how many aliases are followed: an alias may lead to itself.
const maxAliases = 32

// Parse returns the root of the first document. An error has its line.
func Parse(data []byte) (Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return Node{}, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(document.Content) == 0 {
		return Node{}, nil
	}
	return resolve(document.Content[0]), nil
}

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
