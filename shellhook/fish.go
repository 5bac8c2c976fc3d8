package shellhook

import (
	_ "embed"
	"fmt"
	"strings"
	"unicode/utf8"
)

//go:embed hook.fish
var hookFish string

type fish struct{ savingCode }

func (fish) Name() string { return "fish" }

func (fish) Export(name, value string) string {
	return statement("set -gx ", name, " "+quoteFish(value))
}

func (fish) Unset(name string) string { return statement("set -e -g ", name, "") }

func (fish) Set(name, value string) string { return statement("set -gu ", name, " "+quoteFish(value)) }

func (fish) Hook(exe string) string {
	return "set -gu __localport_exe " + quoteFish(exe) + "\n" + hookFish
}

// quoteFish quotes a value as one word. In fish's single quotes the backslash is special too, but only before itself
// and the quote. Bytes that are not UTF-8 are written outside the quotes as \XHH, which is one byte in every version.
func quoteFish(value string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := 0; i < len(value); {
		r, size := utf8.DecodeRuneInString(value[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `'\X%02x'`, value[i])
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteByte(value[i])
		default:
			b.WriteString(value[i : i+size])
		}
		i += size
	}
	b.WriteByte('\'')
	return b.String()
}
