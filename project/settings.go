package project

import "strings"

// Key is a key of a table whose keys depend on a type that another package knows: of health_check for one type of
// check, of connection for one technology. The parser reads it, says what is wrong with it, and keeps its value.
type Key struct {
	Name     string
	Is       KeyType
	Required bool
	Or       string   // the key beside it that may be there instead of a required one
	Excludes []string // the keys beside it that make no sense with it
	Top      bool     // of a technology: it stands beside connection, not in it, and each service has its own
	Values   []string // of a Text: those that there are; nil: any
	Secret   bool     // never to be shown: every value counts among Project.Secrets
	// Public names the entries of a secret Table that may be shown, in any case of letters: masking the name of a host
	// or a media type wherever it stands would hide more than it keeps.
	Public  []string
	Default any // of the Go type that Is names; nil: the zero value
	// Valid says what is wrong with a value of the right type; nil: nothing can be.
	Valid func(value any) error
	// Entry makes the text of an entry of a Table from its value, a string, an int64 or a bool. A Table that has it is put over
	// the one in [defaults], entry by entry; nil: values are strings, and the table is replaced as a whole.
	Entry func(name string, value any) (string, error)
	// Example ends the message about a missing required key: `, for example "redis-cli"`.
	Example string
}

// KeyType is what the value of a key is, and the Go type that Settings has it in.
type KeyType int

// The types of keys.
const (
	Text       KeyType = iota // string
	Number                    // int
	Flag                      // bool
	Texts                     // []string: an array of them, not empty; the first is not empty either
	Table                     // map[string]string: keys are free
	File                      // string: a path, made absolute; ~ and the project's root are resolved. Its key ends in _file, or is kubeconfig
	Codes                     // []int: a number, or an array of them
	Argument                  // string: it becomes an argument of a program, and is not to be taken for an option
	Word                      // string: an Argument without spaces, as a name or a host is
	Port                      // int: 1-65535
	Expression                // string: a regular expression
)

// CheckType is a type of health check: its name, and the keys that it has besides those of every check.
type CheckType struct {
	Name string
	Keys []Key
}

// TechnologyType is a technology: its name, and the keys that its services have.
type TechnologyType struct {
	Name       string
	Port       bool   // it has a remote_port, and that is required
	PortOr     string // the key of connection that may be there instead of it; empty: none may
	NamedPorts bool   // its remote_port may be a name
	Keys       []Key
	// Finish fills in what depends on several keys, and rejects keys that do not go together. What is wrong with a single
	// key has been reported, and its value is missing. Nil: there is nothing of that.
	Finish func(s *Service, keys Given)
}

// Given is the keys that a config gives a service, itself or by [defaults].
type Given struct {
	report *report
	table  *node
	keys   map[string]bool
}

// Has reports whether a key is given, as in "connection.host".
func (g Given) Has(key string) bool { return g.keys[key] }

// Reject reports that a key that is given makes no sense, at the key, or at the service where it comes from [defaults].
func (g Given) Reject(key, why string) {
	at := g.table.member(strings.Split(key, ".")...)
	if at == nil {
		at = g.table
	}
	g.report.key(at, "%s", why)
}

// Miss reports that the service lacks something.
func (g Given) Miss(why string) { g.report.key(g.table, "%s", why) }

// Settings are the values of the keys of one type, defaults filled in. Each is of the Go type of its KeyType; the
// readers return the zero value for a key that is not there.
type Settings map[string]any

// Text is the value of a Text, an Argument, a Word, an Expression or a File.
func (s Settings) Text(name string) string { return value[string](s, name) }

// Number is the value of a Number or a Port.
func (s Settings) Number(name string) int { return value[int](s, name) }

// Flag is the value of a Flag.
func (s Settings) Flag(name string) bool { return value[bool](s, name) }

// Texts is the value of Texts.
func (s Settings) Texts(name string) []string { return value[[]string](s, name) }

// Table is the value of a Table.
func (s Settings) Table(name string) map[string]string { return value[map[string]string](s, name) }

// Codes is the value of Codes.
func (s Settings) Codes(name string) []int { return value[[]int](s, name) }

func value[T any](s Settings, name string) T {
	v, _ := s[name].(T)
	return v
}
