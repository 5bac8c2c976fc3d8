// Package draft writes configs: text for .localport.toml that project.Parse accepts, with comments for the person who reviews it.
package draft

import (
	"strings"

	"github.com/localport-sh/localport/project"
)

// SchemaLine is the first line of a config, by which editors find the schema of its keys.
const SchemaLine = "#:schema " + project.SchemaURL

// Config is a config to be written.
type Config struct {
	Comment  []string // paragraphs at the top of the file
	Settings Table    // the keys outside of all tables
	Defaults Table
	Services []Service
	Env      Table
	Trailer  []string // paragraphs at the end of the file
}

// Service is a service to be written.
type Service struct {
	Name    string
	Comment []string // paragraphs above it
	Entries Table
	// Suggestions are written as comments, for keys whose values the user has to complete.
	Suggestions Table
}

// Entry is a key of a table and its value: a string, a Template, an int, a bool, a float64, an []string, a []Template, an []int or a Table.
type Entry struct {
	Key     string
	Value   any
	Comment string // after the value
}

// Template is a string in which ${…} is a reference. In a plain string it stands for itself.
type Template string

// Table is a table as a value. It is written on one line if that is short enough.
type Table []Entry

// Set adds a key to the table, or replaces its value. A value that is empty changes nothing.
func (t *Table) Set(key string, value any) {
	if isEmpty(value) {
		return
	}
	for i := range *t {
		if (*t)[i].Key == key {
			(*t)[i].Value = value
			return
		}
	}
	*t = append(*t, Entry{Key: key, Value: value})
}

// Get returns the value of a key; nil if the table does not have it.
func (t Table) Get(key string) any {
	for _, entry := range t {
		if entry.Key == key {
			return entry.Value
		}
	}
	return nil
}

// Text returns the text of a Template; empty if the table does not have the key.
func (t Table) Text(key string) string {
	text, _ := t.Get(key).(Template)
	return string(text)
}

// Set is Table.Set for the keys of the service.
func (s *Service) Set(key string, value any) { s.Entries.Set(key, value) }

func isEmpty(value any) bool {
	switch value := value.(type) {
	case string:
		return value == ""
	case Template:
		return value == ""
	case []string:
		return len(value) == 0
	case []int:
		return len(value) == 0
	case Table:
		return len(value) == 0
	}
	return value == nil
}

// Text returns the text of the file.
func (c Config) Text() string {
	var w writer
	w.line(SchemaLine)
	w.paragraphs(c.Comment)
	if len(c.Settings) > 0 {
		w.line("")
		w.shortEntries(c.Settings)
	}
	w.tables(c)
	if len(c.Trailer) > 0 {
		w.line("")
		w.paragraphs(c.Trailer)
	}
	return w.text.String()
}

// Tables returns the text of the tables only.
func (c Config) Tables() string {
	var w writer
	w.tables(c)
	return strings.TrimPrefix(w.text.String(), "\n")
}

// Text returns the text of the service's table, with its header and its comments.
func (s Service) Text() string { return Config{Services: []Service{s}}.Tables() }

// writer writes TOML.
type writer struct{ text strings.Builder }

func (w *writer) line(text string) { w.text.WriteString(text + "\n") }

// paragraphs writes comments, each paragraph wrapped.
func (w *writer) paragraphs(paragraphs []string) {
	for _, paragraph := range paragraphs {
		for _, line := range wrapComment(paragraph) {
			w.line(line)
		}
	}
}

// tables writes the tables of a config, each after a blank line.
func (w *writer) tables(c Config) {
	if len(c.Defaults) > 0 {
		w.table("defaults", nil, c.Defaults)
	}
	for _, service := range c.Services {
		w.service(service)
	}
	if len(c.Env) > 0 {
		w.table("env", nil, c.Env)
	}
}

// table writes a table with its header; tables in it that are too long for a line follow with headers of their own.
func (w *writer) table(name string, comment []string, entries []Entry) {
	w.line("")
	w.paragraphs(comment)
	w.line("[" + name + "]")
	w.entries(name, entries)
}

// service writes a service. Its suggestions come last of the keys in its own table: those after the header of another table would be in that.
func (w *writer) service(service Service) {
	name := "services." + QuoteKey(service.Name)
	w.line("")
	w.paragraphs(service.Comment)
	w.line("[" + name + "]")
	long := w.shortEntries(service.Entries)
	for _, suggestion := range service.Suggestions {
		w.line("# " + QuoteKey(suggestion.Key) + " = " + FormatValue(suggestion.Value) + comment(suggestion))
	}
	w.longEntries(name, long)
}

// maxLine is the length of a line after which a table is written with a header of its own.
const maxLine = 130

func (w *writer) entries(table string, entries []Entry) {
	w.longEntries(table, w.shortEntries(entries))
}

// shortEntries writes the keys with values of one line, and returns the others.
func (w *writer) shortEntries(entries []Entry) (long []Entry) {
	for _, entry := range entries {
		line := QuoteKey(entry.Key) + " = " + FormatValue(entry.Value)
		if _, isTable := entry.Value.(Table); isTable && len(line) > maxLine {
			long = append(long, entry)
			continue
		}
		w.line(line + comment(entry))
	}
	return long
}

func (w *writer) longEntries(table string, entries []Entry) {
	for _, entry := range entries {
		name := table + "." + QuoteKey(entry.Key)
		w.line("[" + name + "]")
		w.entries(name, entry.Value.(Table))
	}
}

func comment(entry Entry) string {
	if entry.Comment == "" {
		return ""
	}
	return " # " + commentText(entry.Comment)
}
