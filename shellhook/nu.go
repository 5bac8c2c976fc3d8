package shellhook

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed hook.nu
var hookNu string

// nu is nushell, which cannot evaluate code: a statement is a JSON object in a line of its own, which the hook carries out. JSON and
// nushell hold UTF-8 only.
type nu struct{}

type nuStatement struct {
	Do    string   `json:"do"` // "set", "export", "unset" or "watch"
	Name  string   `json:"name,omitempty"`
	Value string   `json:"value"`
	Names []string `json:"names"`
}

func (s nuStatement) line() string {
	if s.Do != "watch" && !isName(s.Name) {
		return ""
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // strings do not fail
	return b.String()
}

func (nu) Name() string { return "nu" }

func (nu) Quote(value string) string { return quoteNu(value) }

func (nu) Export(name, value string) string {
	return nuStatement{Do: "export", Name: name, Value: value}.line()
}

func (nu) Unset(name string) string { return nuStatement{Do: "unset", Name: name}.line() }

func (s nu) Save(name, value string, _ bool) string { return s.Export(name, value) }

func (s nu) Assign(name string, value *string) string {
	if value == nil {
		return s.Unset(name)
	}
	return s.Export(name, *value)
}

func (s nu) Restore(name string, previous *string) string { return s.Assign(name, previous) }

func (nu) SaveBase(string, *string) string { return "" }

func (s nu) RestoreBase(name string, base *string) string { return s.Restore(name, base) }

func (nu) Left() string { return "" }

func (nu) Watch(names []string) string {
	return nuStatement{Do: "watch", Names: append([]string{}, validNames(names)...)}.line()
}

func (nu) Set(name, value string) string {
	return nuStatement{Do: "set", Name: name, Value: value}.line()
}

// Hook is the text of a file.
func (nu) Hook(exe string) string {
	return "def __localport_exe [] { " + quoteNu(exe) + " }\n" + hookNu
}

// quoteNu quotes a value as one word. In nushell's double quotes the backslash and the quote are special.
func quoteNu(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range value {
		switch {
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u{%x}`, r)
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			fallthrough
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
