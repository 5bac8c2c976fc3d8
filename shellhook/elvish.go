package shellhook

import (
	_ "embed"
	"fmt"
	"strings"
	"unicode/utf8"
)

//go:embed hook.elv
var hookElvish string

type elvish struct{ environmentCode }

func (elvish) Name() string { return "elvish" }

func (elvish) Set(name, value string) string {
	return statement("set ", name, " = "+quoteElvish(value))
}

func (elvish) Watch(names []string) string {
	return "set __localport_uses = [" + strings.Join(validNames(names), " ") + "];\n"
}

func (elvish) Hook(exe string) string {
	return "var __localport_exe = " + quoteElvish(exe) + "\n" + hookElvish
}

// quoteElvish quotes a value as one word. In elvish's double quotes only the backslash and the quote are special, and \xHH is one byte.
func quoteElvish(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(value); {
		r, size := utf8.DecodeRuneInString(value[i:])
		switch {
		case r == utf8.RuneError && size == 1 || r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, value[i])
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteByte(value[i])
		default:
			b.WriteString(value[i : i+size])
		}
		i += size
	}
	b.WriteByte('"')
	return b.String()
}
