package draft

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
)

// tree returns the config as one table, as it would be in another format than TOML.
func (c Config) tree() Table {
	tree := slices.Clone(c.Settings)
	if len(c.Defaults) > 0 {
		tree = append(tree, Entry{Key: "defaults", Value: c.Defaults})
	}
	if len(c.Services) > 0 {
		var services Table
		for _, service := range c.Services {
			services = append(services, Entry{Key: service.Name, Value: service.Entries})
		}
		tree = append(tree, Entry{Key: "services", Value: services})
	}
	if len(c.Env) > 0 {
		tree = append(tree, Entry{Key: "env", Value: c.Env})
	}
	return tree
}

// Put sets the key at a path, in tables that it adds where they are missing, unless the key is there.
func (t *Table) Put(path []string, value any) {
	at := slices.IndexFunc(*t, func(e Entry) bool { return e.Key == path[0] })
	switch {
	case at < 0 && len(path) == 1:
		*t = append(*t, Entry{Key: path[0], Value: value})
	case len(path) == 1:
	case at < 0:
		var inner Table
		inner.Put(path[1:], value)
		*t = append(*t, Entry{Key: path[0], Value: inner})
	default:
		inner, _ := (*t)[at].Value.(Table)
		inner.Put(path[1:], value)
		(*t)[at].Value = inner
	}
}

// JSON returns the config as JSON, without its comments.
func (c Config) JSON() string {
	var b strings.Builder
	writeJSON(&b, c.tree(), "")
	return b.String() + "\n"
}

func writeJSON(b *strings.Builder, value any, indent string) {
	table, isTable := value.(Table)
	switch {
	case !isTable:
		b.WriteString(scalarJSON(value))
		return
	case len(table) == 0:
		b.WriteString("{}")
		return
	}
	b.WriteString("{")
	for i, entry := range table {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n" + indent + "  " + quoteJSON(entry.Key) + ": ")
		writeJSON(b, entry.Value, indent+"  ")
	}
	b.WriteString("\n" + indent + "}")
}

// scalarJSON returns a value that is no table in JSON, which is YAML too.
func scalarJSON(value any) string {
	switch value := value.(type) {
	case string:
		return quoteJSON(EscapeTemplate(value))
	case Template:
		return quoteJSON(string(value))
	case []string:
		return listJSON(value)
	case []Template:
		return listJSON(value)
	case []int:
		return listJSON(value)
	}
	return FormatValue(value) // a number or a bool is the same in TOML and in JSON
}

func listJSON[T any](values []T) string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = scalarJSON(value)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// quoteJSON returns a string of JSON. Characters that YAML does not allow, or that end a line in it, are escaped (yaml.org/spec/1.2.2, 5.1 and 5.4).
func quoteJSON(text string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string can always be encoded
	escape := func(r rune) string { return `\u` + strconv.FormatInt(0x10000+int64(r), 16)[1:] }
	var quoted strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if r >= 0x7f && r < 0xa0 || r == '\ufeff' || r == '\ufffe' || r == '\uffff' {
			quoted.WriteString(escape(r))
		} else {
			quoted.WriteRune(r)
		}
	}
	return quoted.String()
}

// YAML returns the config as YAML, without its comments.
func (c Config) YAML() string {
	tree := c.tree()
	if len(tree) == 0 {
		return "{}\n"
	}
	var b strings.Builder
	writeYAML(&b, tree, "")
	return b.String()
}

func writeYAML(b *strings.Builder, table Table, indent string) {
	for _, entry := range table {
		b.WriteString(indent + plainYAML(entry.Key) + ":")
		inner, isTable := entry.Value.(Table)
		switch {
		case isTable && len(inner) == 0:
			b.WriteString(" {}\n")
		case isTable:
			b.WriteString("\n")
			writeYAML(b, inner, indent+"  ")
		default:
			b.WriteString(" " + valueYAML(entry.Value) + "\n")
		}
	}
}

func valueYAML(value any) string {
	switch value := value.(type) {
	case string:
		return plainYAML(EscapeTemplate(value))
	case Template:
		return plainYAML(string(value))
	}
	return scalarJSON(value)
}

// plainPattern matches strings that need no quotes in YAML, except for the words in notStrings.
var plainPattern = project.LazyRegexp(`^[A-Za-z_/][A-Za-z0-9_./-]*$`)

// notStrings are words that YAML 1.1 or 1.2 takes for something else than a string.
var notStrings = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

// plainYAML returns a string, in quotes where YAML needs them.
func plainYAML(text string) string {
	if plainPattern().MatchString(text) && !slices.Contains(notStrings, strings.ToLower(text)) {
		return text
	}
	return quoteJSON(text)
}
