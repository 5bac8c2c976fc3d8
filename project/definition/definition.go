// Package definition writes the definitions of services as the text of a config.
package definition

import (
	"fmt"
	"strconv"
	"strings"
)

// Service is a service as a config defines it. Its texts are as in the config: "$$" is a dollar, and "${NAME}" a variable; see Literal.
type Service struct {
	Name         string
	Technology   string
	LocalPort    int    // 0: "auto"
	LocalAddress string // empty: 127.0.0.1 and ::1
	RemotePort   string // a number, or a port's name; empty: none
	Description  string
	Tags         []string
	Command      []string // of the technology "command"
	OnDemand     bool
	Connection   Table
	HealthCheck  Table
}

// Table is an inline table, in the order in which its keys are written.
type Table []Entry

// Entry is a key with its value: a string, an int, a bool, a []string or a Table.
type Entry struct {
	Key   string
	Value any
}

// Variable is an entry of [env] or of .env.
type Variable struct{ Name, Value string }

// Set adds a key, or replaces its value. An empty text is not added.
func (t *Table) Set(key string, value any) {
	if value == "" {
		return
	}
	for i := range *t {
		if (*t)[i].Key == key {
			(*t)[i].Value = value
			return
		}
	}
	*t = append(*t, Entry{key, value})
}

// Text returns the text of a key; empty if the table does not have it.
func (t Table) Text(key string) string {
	for _, entry := range t {
		if entry.Key == key {
			text, _ := entry.Value.(string)
			return text
		}
	}
	return ""
}

// Literal returns the text of a config that stands for text itself.
func Literal(text string) string { return strings.ReplaceAll(text, "$", "$$") }

// Render returns the text of a config with the services, which ends with a newline.
func Render(services []Service) string {
	var texts []string
	for _, svc := range services {
		texts = append(texts, svc.Render())
	}
	return strings.Join(texts, "\n")
}

// Render returns the table of the service, from its header to the newline of its last line.
func (s Service) Render() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[services.%s]\n", renderKey(s.Name))
	line := func(key string, value any) { b.WriteString(RenderEntry(key, value)) }
	line("technology", s.Technology)
	if s.Command != nil {
		line("command", s.Command)
	}
	if s.LocalPort == 0 {
		line("local_port", "auto")
	} else {
		line("local_port", s.LocalPort)
	}
	if s.LocalAddress != "" {
		line("local_address", s.LocalAddress)
	}
	if number, err := strconv.Atoi(s.RemotePort); err == nil && strconv.Itoa(number) == s.RemotePort {
		line("remote_port", number)
	} else if s.RemotePort != "" {
		line("remote_port", s.RemotePort)
	}
	if s.Tags != nil {
		line("tags", s.Tags)
	}
	if s.Description != "" {
		line("description", s.Description)
	}
	if s.OnDemand {
		line("start", "on-demand")
	}
	if s.Connection != nil {
		line("connection", s.Connection)
	}
	if s.HealthCheck != nil {
		line("health_check", s.HealthCheck)
	}
	return b.String()
}

// RenderEntry returns the line of a key and its value, such as an entry of [env].
func RenderEntry(key string, value any) string {
	return renderKey(key) + " = " + renderValue(value) + "\n"
}

// renderKey returns a key of TOML: bare if it may be.
func renderKey(key string) string {
	const bareCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if key != "" && strings.Trim(key, bareCharacters) == "" {
		return key
	}
	return renderText(key)
}

// renderValue returns a value of TOML, on one line.
func renderValue(value any) string {
	switch value := value.(type) {
	case string:
		return renderText(value)
	case []string:
		elements := make([]string, len(value))
		for i, text := range value {
			elements[i] = renderText(text)
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case Table:
		if len(value) == 0 {
			return "{}"
		}
		entries := make([]string, len(value))
		for i, entry := range value {
			entries[i] = renderKey(entry.Key) + " = " + renderValue(entry.Value)
		}
		return "{ " + strings.Join(entries, ", ") + " }"
	}
	return fmt.Sprint(value)
}

// renderText returns a basic string of TOML 1.0.
func renderText(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
