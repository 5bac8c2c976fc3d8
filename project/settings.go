package project

import "strings"

// Key is a key that another package defines: of health_check for one type of
// check, of connection for one technology. The parser reads it, reports its errors, and stores its value in Settings.
type Key struct {
	Name             string
	Type             KeyType
	Required         bool
	Alternative      string   // the key in the same table that may be given instead of a required one
	Conflicts        []string // the keys in the same table that cannot be used with it
	BesideConnection bool     // of a technology: it is in the service's table, not in connection, and not allowed in [defaults]
	Values           []string // of a TypeText: the allowed values; nil: any
	Secret           bool     // its values are never shown: they are added to Project.Secrets
	// PublicEntries names the entries of a secret TypeTable that may be shown, case-insensitively: masking the name of a host
	// or a media type wherever it stands would hide more than it keeps.
	PublicEntries []string
	Default       any // of the Go type of Type; nil: the zero value
	// Validate returns what is wrong with a value of the right type; nil: every value is valid.
	Validate func(value any) error
	// ReadEntry returns the text of an entry of a TypeTable for its value, a string, an int64 or a bool. Its entries are merged with
	// those in [defaults]; nil: values are strings, and the table replaces the one in [defaults].
	ReadEntry func(name string, value any) (string, error)
	// Example ends the message about a missing required key: `, for example "redis-cli"`.
	Example string
}

// KeyType is the type of a key's value, in TOML and in Settings.
type KeyType int

// The types of keys.
const (
	TypeText       KeyType = iota // string
	TypeNumber                    // int
	TypeBool                      // bool
	TypeTextList                  // []string: an array of strings; neither it nor its first string is empty
	TypeTable                     // map[string]string with any keys
	TypeFile                      // string: a path, made absolute; ~ and the project's root are resolved. Its key ends in _file, or is kubeconfig
	TypeNumberList                // []int: a number, or an array of them
	TypeArgument                  // string: an argument of a program, which must not look like an option
	TypeWord                      // string: a TypeArgument without spaces, such as a name or a host
	TypePort                      // int: 1-65535
	TypeRegexp                    // string: a regular expression
)

// CheckType is a type of health check: its name, and its keys besides those of every check.
type CheckType struct {
	Name string
	Keys []Key
}

// TechnologyType is a technology: its name, and the keys of its services.
type TechnologyType struct {
	Name                  string
	HasRemotePort         bool   // its services have a remote_port, which is required
	RemotePortAlternative string // the key of connection that may be given instead; empty: none
	SupportsPortNames     bool   // its remote_port may be a name
	Keys                  []Key
	// Finish fills in what depends on several keys, and rejects keys that cannot be used together. Errors in single
	// keys have been reported, and their values are missing. It may be nil.
	Finish func(s *Service, keys GivenKeys)
}

// GivenKeys are the keys that the config sets for a service, in its table or in [defaults].
type GivenKeys struct {
	report *report
	table  *node
	keys   map[string]bool
}

// Has reports whether a key is given, as in "connection.host".
func (g GivenKeys) Has(key string) bool { return g.keys[key] }

// RejectKey reports an error at a given key, or at the service if the key comes from [defaults].
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
