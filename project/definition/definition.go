// Package definition describes services that were read from the command lines of other tools.
package definition

import (
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project/draft"
)

// Service is a service as a config defines it. Its texts are as in the config: "$$" is a dollar, and "${NAME}" a variable; see Literal.
type Service struct {
	Name         string
	Technology   string
	LocalPort    int    // 0: "auto"
	LocalAddress string // empty: 127.0.0.1 and ::1
	RemotePort   string // a number, or a port's name; empty: none
	Connection   Table
	HealthCheck  Table
}

// Table is an inline table, in the order in which its keys are written.
type Table []Entry

// Entry is a key with its value: a text, an int, a bool or a Table.
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

// Has reports whether the table has a key.
func (t Table) Has(key string) bool {
	for _, entry := range t {
		if entry.Key == key {
			return true
		}
	}
	return false
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
func Literal(text string) string { return draft.EscapeTemplate(text) }

// Render returns the text of a config with the services, which ends with a newline.
func Render(services []Service) string {
	var texts []string
	for _, svc := range services {
		texts = append(texts, svc.Render())
	}
	return strings.Join(texts, "\n")
}

// RenderEntry returns the line of an entry of [env].
func RenderEntry(name, text string) string { return name + " = " + draft.Quote(text) + "\n" }

// Render returns the table of the service, from its header to the newline of its last line.
func (s Service) Render() string { return draft.ServiceText(s.Draft()) }

// Draft returns the service for a config that is written.
func (s Service) Draft() draft.Service {
	svc := draft.Service{Name: s.Name}
	svc.Set("technology", s.Technology)
	if s.LocalPort == 0 {
		svc.Set("local_port", "auto")
	} else {
		svc.Set("local_port", s.LocalPort)
	}
	svc.Set("local_address", s.LocalAddress)
	if number, err := strconv.Atoi(s.RemotePort); err == nil && strconv.Itoa(number) == s.RemotePort {
		svc.Set("remote_port", number)
	} else {
		svc.Set("remote_port", s.RemotePort)
	}
	svc.Set("connection", s.Connection.draft())
	svc.Set("health_check", s.HealthCheck.draft())
	return svc
}

func (t Table) draft() (table draft.Table) {
	for _, entry := range t {
		switch value := entry.Value.(type) {
		case string:
			table.Set(entry.Key, draft.Template(value))
		case Table:
			table.Set(entry.Key, value.draft())
		default:
			table.Set(entry.Key, value)
		}
	}
	return table
}
