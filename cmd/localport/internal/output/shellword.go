package output

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/localport-sh/localport/shellhook"
)

// FindCallingShell returns the name of the shell that has started this program, or that will read what it prints; empty if that is not known. main
// replaces it.
var FindCallingShell = func() string { return "" }

// ShellWord returns text as one word of the calling shell, for a command in a message, in quotes only where it needs them. The message stays one line
// and harmless.
func ShellWord(text string) string {
	isPlain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+:,./_-", r)
	}
	if text != "" && strings.TrimFunc(text, isPlain) == "" && text[0] != '@' && text[0] != '%' { // special in PowerShell and nushell
		return text
	}
	return ShellQuote(text)
}

// ShellQuote is ShellWord, but always with quotes.
func ShellQuote(text string) string { return QuoteFor(FindCallingShell(), text) }

// QuoteFor is ShellQuote for a shell by its name. For one that is not known it writes what sh, bash, zsh and fish read alike.
func QuoteFor(shellName, text string) string {
	shell, err := shellhook.Lookup(shellName)
	isPrintable := EscapeLine(text) == text
	switch {
	case err != nil && isPrintable:
		return "'" + strings.NewReplacer("'", `'\''`, `\`, `'\\'`).Replace(text) + "'" // fish reads a backslash in quotes differently
	case err == nil && isPrintable:
		return shell.Quote(text)
	case err == nil && shell.Name() == "elvish":
		return quoteEscaped(text, `"`, `\x%02x`, `\n`)
	case err == nil && shell.Name() == "fish":
		return quoteEscaped(text, "'", `'\X%02x'`, `'\n'`)
	case err == nil && shell.Name() != "bash" && shell.Name() != "zsh":
		return shell.Quote(text)
	}
	return "$" + quoteEscaped(text, "'", `\%03o`, `\n`) // sh (POSIX.1-2024, XCU 2.2.4), bash and zsh read that
}

// quoteEscaped returns text in quotes, in which a backslash escapes the quote and itself. Bytes of characters that are not printable are formatted,
// but for the newline.
func quoteEscaped(text, quote, format, newline string) string {
	var b strings.Builder
	b.WriteString(quote)
	for len(text) > 0 {
		_, size := utf8.DecodeRuneInString(text)
		char := text[:size]
		text = text[size:]
		switch {
		case char == quote || char == `\`:
			b.WriteString(`\` + char)
		case char == "\n":
			b.WriteString(newline)
		case EscapeLine(char) == char:
			b.WriteString(char)
		default:
			for _, c := range []byte(char) {
				fmt.Fprintf(&b, format, c)
			}
		}
	}
	b.WriteString(quote)
	return b.String()
}
