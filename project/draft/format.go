package draft

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder/printable"
)

// FormatValue returns the value of an Entry in TOML, on one line.
func FormatValue(value any) string {
	switch value := value.(type) {
	case string:
		return Quote(EscapeTemplate(value))
	case Template:
		return Quote(string(value))
	case float64:
		text := strconv.FormatFloat(value, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	case []string:
		return formatList(value)
	case []Template:
		return formatList(value)
	case []int:
		return formatList(value)
	case Table:
		return formatTable(value)
	}
	return fmt.Sprint(value) // an int or a bool
}

func formatList[T any](values []T) string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = FormatValue(value)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func formatTable(table Table) string {
	texts := make([]string, len(table))
	for i, entry := range table {
		texts[i] = QuoteKey(entry.Key) + " = " + FormatValue(entry.Value)
	}
	return "{ " + strings.Join(texts, ", ") + " }"
}

// EscapeTemplate returns text in which no ${…} is a reference.
func EscapeTemplate(text string) string { return strings.ReplaceAll(text, "$", "$$") }

// Quote returns a basic string of TOML (toml.io/en/v1.0.0#string). Bytes that are not UTF-8 become U+FFFD.
func Quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case printable.EscapeLine(string(r)) != string(r) && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case printable.EscapeLine(string(r)) != string(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// QuoteKey returns a key as TOML writes it, in quotes where it needs them.
func QuoteKey(key string) string {
	isBare := func(r rune) bool {
		return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
	}
	if key != "" && strings.TrimFunc(key, isBare) == "" {
		return key
	}
	return Quote(key)
}

// maxComment is the length of a comment's lines.
const maxComment = 79

// wrapComment returns the lines of a comment, wrapped between words. A paragraph that begins with a space is not wrapped.
func wrapComment(paragraph string) []string {
	text := commentText(paragraph)
	if strings.HasPrefix(text, " ") {
		return []string{"#" + text}
	}
	var lines []string
	line, indent := "#", "#"
	if strings.HasPrefix(text, "- ") {
		indent = "#  "
	}
	for word := range strings.FieldsSeq(text) {
		if line != "#" && len(line)+1+len(word) > maxComment {
			lines = append(lines, line)
			line = indent
		}
		line += " " + word
	}
	return append(lines, line)
}

// commentText returns text for a comment, which cannot hold control characters.
func commentText(text string) string {
	return printable.EscapeLine(strings.Join(strings.Split(strings.TrimRight(text, "\n"), "\n"), " "))
}

// FormatResolved returns a value in TOML that is to be read and not parsed: no "$" in it begins a reference.
func FormatResolved(value any) string {
	switch value := value.(type) {
	case string:
		return Quote(value)
	case []string:
		return formatList(asTemplates(value))
	case Table:
		texts := make(Table, len(value))
		for i, entry := range value {
			texts[i] = entry
			if text, ok := entry.Value.(string); ok {
				texts[i].Value = Template(text)
			}
		}
		return formatTable(texts)
	}
	return FormatValue(value)
}

func asTemplates(texts []string) []Template {
	templates := make([]Template, len(texts))
	for i, text := range texts {
		templates[i] = Template(text)
	}
	return templates
}
