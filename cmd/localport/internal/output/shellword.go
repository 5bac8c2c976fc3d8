package output

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/localport-sh/localport/shellhook"
)

// ShellWord returns text as one word of a shell, for a command in a message, in quotes only where it needs them. A word with control characters is written as $'…', so that the
// message stays one line and harmless; sh (POSIX.1-2024, XCU 2.2.4), bash and zsh read that.
func ShellWord(text string) string {
	isPlain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+:,./_-", r)
	}
	switch {
	case text != "" && strings.TrimFunc(text, isPlain) == "":
		return text
	case EscapeLine(text) == text:
		return shellhook.Quote(text)
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(text) > 0 {
		_, size := utf8.DecodeRuneInString(text)
		char := text[:size]
		text = text[size:]
		switch {
		case char == "'" || char == `\`:
			b.WriteString(`\` + char)
		case char == "\n":
			b.WriteString(`\n`)
		case EscapeLine(char) == char:
			b.WriteString(char)
		default:
			for _, c := range []byte(char) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		}
	}
	b.WriteString("'")
	return b.String()
}
