package project

// Key is a key of a table whose keys depend on a type that another package knows: of health_check for one type of
// check, of connection for one technology. The parser reads it, says what is wrong with it, and keeps its value.
type Key struct {
	Name     string
	Is       KeyType
	Required bool
	Secret   bool // never to be shown: every value counts among Project.Secrets
	// Public names the entries of a secret Table that may be shown, in any case of letters: masking the name of a host
	// or a media type wherever it stands would hide more than it keeps.
	Public  []string
	Default any // of the Go type that Is names; nil: the zero value
	// Valid says what is wrong with a value of the right type; nil: nothing can be.
	Valid func(value any) error
	// Example ends the message about a required key that is missing: `, as in "redis-cli"`.
	Example string
}

// KeyType is what the value of a key is, and the Go type that Settings has it in.
type KeyType int

// The types of keys.
const (
	Text   KeyType = iota // string
	Number                // int
	Flag                  // bool
	Texts                 // []string: an array of them, not empty; the first is not empty either
	Table                 // map[string]string: keys are free
	File                  // string: a path, made absolute; ~ and the project's root are resolved. Its key ends in _file
	Codes                 // []int: a number, or an array of them
)

// CheckType is a type of health check: its name, and the keys that it has besides those of every check.
type CheckType struct {
	Name string
	Keys []Key
}

// TechnologyType is a technology: its name, and the keys that it has in connection.
type TechnologyType struct {
	Name string
	Port bool // it has a remote_port, and that is required
	Keys []Key
}

// Settings are the values of the keys of one type, defaults filled in. Each is of the Go type of its KeyType; the
// readers return the zero value for a key that is not there.
type Settings map[string]any

// Text is the value of a Text or a File.
func (s Settings) Text(name string) string { return value[string](s, name) }

// Number is the value of a Number.
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
