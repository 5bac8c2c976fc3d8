package project

import (
	"slices"
	"strings"
)

// Key is a key that another package defines: a key of health_check for one type of check, or of connection for one technology. The parser
// reads it, reports its errors, and stores its value in Settings.
type Key struct {
	Name              string
	Type              KeyType
	Required          bool
	Alternative       string   // the key in the same table that may be given instead of a required one
	Conflicts         []string // the keys in the same table that cannot be used with it
	OutsideConnection bool     // of a technology: the key is in the service's own table, not in connection, and not allowed in [defaults]
	Aliases           []string // other names for the key that people write: the message about them suggests the key
	Values            []string // of a TypeText: the allowed values; nil: any
	Secret            bool     // its values are never shown: they are added to Project.Secrets
	// PublicEntries names the entries of a secret TypeTable that may be shown, case-insensitively: masking a host name or a media type
	// wherever it occurs would make messages unreadable.
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

// parse returns the node's value in the Go type of the key. before holds the settings read so far.
func (k Key) parse(n *node, before Settings) (any, error) {
	switch k.Type {
	case TypeNumber:
		return integerAtLeast(0)(n)
	case TypeBool:
		return n.asBool()
	case TypeTextList:
		return n.asCommandLine()
	case TypeTable:
		if k.ReadEntry == nil {
			return n.asTable("a table of strings", nil, (*node).asString)
		}
		return n.asTable("a table", before.Table(k.Name), func(m *node) (string, error) {
			value, err := m.asScalar()
			if err != nil {
				return "", err
			}
			return k.ReadEntry(m.name, value)
		})
	case TypeNumberList:
		return n.asNumberList()
	case TypePort:
		return n.asPort()
	case TypeFile:
		return n.asPath()
	case TypeArgument:
		return n.asArgument()
	case TypeWord:
		return n.asWord()
	case TypeRegexp:
		return n.asRegexp()
	}
	if k.Values != nil {
		return oneOf(k.Name, k.Values)(n)
	}
	return n.asString()
}

// readInto stores the value of n in the settings.
func (k Key) readInto(settings *Settings, n *node) error {
	value, err := k.parse(n, *settings)
	isReported := slices.ContainsFunc(n.children, func(m *node) bool { return m.hasError })
	if err == nil && k.Validate != nil && !isReported {
		err = k.Validate(value)
	}
	if err == nil {
		settings.set(k.Name, value)
	}
	return err
}

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
	advice *report
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

// Advise adds a warning about the service that only "config validate" shows.
func (g GivenKeys) Advise(why string) { g.advice.reportKey(g.table, "%s", why) }

// ReportMissing reports that the service lacks something.
func (g GivenKeys) ReportMissing(why string) { g.report.reportKey(g.table, "%s", why) }
