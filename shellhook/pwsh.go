package shellhook

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed hook.ps1
var hookPwsh string

// pwsh is PowerShell on Linux and macOS, which holds text in UTF-16: a byte that is not UTF-8 becomes U+FFFD.
type pwsh struct{ environmentCode }

func (pwsh) Name() string { return "pwsh" }

func (pwsh) Set(name, value string) string {
	return statement("$global:", name, " = "+quotePwsh(value))
}

func (pwsh) Watch(names []string) string {
	quoted := validNames(names)
	for i, name := range quoted {
		quoted[i] = quotePwsh(name)
	}
	return "$global:__localport_uses = @(" + strings.Join(quoted, ", ") + ");\n"
}

func (pwsh) Hook(exe string) string {
	return "$global:__localport_exe = " + quotePwsh(exe) + "\n" + hookPwsh
}

// quotePwsh quotes a value as one expression. In single quotes only quotes are special, and two of them denote one; PowerShell takes the four
// typographic ones for quotes too (about_Quoting_Rules). Control characters are outside the quotes: a program's output is read line by
// line, and a carriage return ends a line.
func quotePwsh(value string) string {
	var b strings.Builder
	b.WriteByte('\'')
	hasControl := false
	for _, r := range value {
		switch {
		case r < ' ' || r == 0x7f:
			hasControl = true
			fmt.Fprintf(&b, "'+[char]%d+'", r)
		case isPwshQuote(r):
			b.WriteRune(r)
			fallthrough
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	if hasControl {
		return "(" + b.String() + ")"
	}
	return b.String()
}

func isPwshQuote(r rune) bool { return r == '\'' || '\u2018' <= r && r <= '\u201b' }
