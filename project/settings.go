package project

import "strings"

// Key is a key of a table whose keys depend on a type that another package knows: of health_check for one type of
// check, of connection for one technology. The parser reads it, says what is wrong with it, and keeps its value.
type Key struct {
	Name             string
	Type             KeyType
	Required         bool
	Alternative      string   // the key beside it that may be there instead of a required one
	Conflicts        []string // the keys beside it that make no sense with it
	BesideConnection bool     // of a technology: it stands beside connection, not in it, and each service has its own
	Values           []string // of a Text: those that there are; nil: any
	Secret           bool     // never to be shown: every value counts among Project.Secrets
	// PublicEntries names the entries of a secret Table that may be shown, in any case of letters: masking the name of a host
	// or a media type wherever it stands would hide more than it keeps.
	PublicEntries []string
	Default       any // of the Go type that Is names; nil: the zero value
	// Validate says what is wrong with a value of the right type; nil: nothing can be.
	Validate func(value any) error
	// ReadEntry makes the text of an entry of a Table from its value, a string, an int64 or a bool. A Table that has it is put over
	// the one in [defaults], entry by entry; nil: values are strings, and the table is replaced as a whole.
	ReadEntry func(name string, value any) (string, error)
	// Example ends the message about a missing required key: `, for example "redis-cli"`.
	Example string
}

// KeyType is what the value of a key is, and the Go type that Settings has it in.
type KeyType int

// The types of keys.
const (
	TypeText       KeyType = iota // string
	TypeNumber                    // int
	TypeBool                      // bool
	TypeTextList                  // []string: an array of them, not empty; the first is not empty either
	TypeTable                     // map[string]string: keys are free
	TypeFile                      // string: a path, made absolute; ~ and the project's root are resolved. Its key ends in _file, or is kubeconfig
	TypeNumberList                // []int: a number, or an array of them
	TypeArgument                  // string: it becomes an argument of a program, and is not to be taken for an option
	TypeWord                      // string: an Argument without spaces, as a name or a host is
	TypePort                      // int: 1-65535
	TypeRegexp                    // string: a regular expression
)

// CheckType is a type of health check: its name, and the keys that it has besides those of every check.
type CheckType struct {
	Name string
	Keys []Key
}

// TechnologyType is a technology: its name, and the keys that its services have.
type TechnologyType struct {
	Name                  string
	HasRemotePort         bool   // it has a remote_port, and that is required
	RemotePortAlternative string // the key of connection that may be there instead of it; empty: none may
	SupportsPortNames     bool   // its remote_port may be a name
	Keys                  []Key
	// Finish fills in what depends on several keys, and rejects keys that do not go together. What is wrong with a single
	// key has been reported, and its value is missing. Nil: there is nothing of that.
	Finish func(s *Service, keys GivenKeys)
}

// GivenKeys is the keys that a config gives a service, itself or by [defaults].
type GivenKeys struct {
	report *report
	table  *node
	keys   map[string]bool
}

// Has reports whether a key is given, as in "connection.host".
func (g GivenKeys) Has(key string) bool { return g.keys[key] }

// RejectKey reports that a key that is given makes no sense, at the key, or at the service where it comes from [defaults].
func (g GivenKeys) RejectKey(key, why string) {
	at := g.table.member(strings.Split(key, ".")...)
	if at == nil {
		at = g.table
	}
	g.report.reportKey(at, "%s", why)
}

// ReportMissing reports that the service lacks something.
func (g GivenKeys) ReportMissing(why string) { g.report.reportKey(g.table, "%s", why) }

// Settings are the values of the keys of one type, defaults filled in. Each is of the Go type of its KeyType; the
// readers return the zero value for a key that is not there.
type Settings map[string]any

// Text is the value of a Text, an Argument, a Word, an Expression or a File.
func (s Settings) Text(name string) string { return settingValue[string](s, name) }

// Number is the value of a Number or a Port.
func (s Settings) Number(name string) int { return settingValue[int](s, name) }

// Bool is the value of a Flag.
func (s Settings) Bool(name string) bool { return settingValue[bool](s, name) }

// TextList is the value of Texts.
func (s Settings) TextList(name string) []string { return settingValue[[]string](s, name) }

// Table is the value of a Table.
func (s Settings) Table(name string) map[string]string {
	return settingValue[map[string]string](s, name)
}

// NumberList is the value of Codes.
func (s Settings) NumberList(name string) []int { return settingValue[[]int](s, name) }

func settingValue[T any](s Settings, name string) T {
	v, _ := s[name].(T)
	return v
}
