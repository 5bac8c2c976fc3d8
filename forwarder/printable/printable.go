// Package printable makes text of other programs fit for a terminal: it escapes what a terminal would act on instead of showing it,
// control characters and controls of the writing direction, and shortens long text.
package printable

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// EscapeLine returns text as one line: line breaks are escaped too. A tab stays. Text without anything to escape is returned as it
// is, and escaping twice changes nothing more.
func EscapeLine(text string) string { return escape(text, false) }

// EscapeText is EscapeLine for text of several lines: "\n" stays.
func EscapeText(text string) string { return escape(text, true) }

// EscapeBytes is EscapeText for a byte slice. It returns data itself if nothing is to be escaped.
func EscapeBytes(data []byte) []byte {
	if bytes.IndexFunc(data, mayNeedEscape) < 0 {
		return data
	}
	return []byte(EscapeText(string(data)))
}

// EscapeJSON escapes in valid JSON what encoding/json writes as it is: DEL, C1 controls and controls of the writing direction. They
// can only stand inside strings, where \uXXXX has the same meaning.
func EscapeJSON(data []byte) []byte {
	if bytes.IndexFunc(data, mayNeedEscape) < 0 {
		return data
	}
	var b bytes.Buffer
	for _, r := range string(data) {
		if isControl(r) && r != '\n' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// Truncate returns text, cut to a number of characters if it has more; then "…" follows.
func Truncate(text string, maxLength int) string {
	length := 0
	for i := range text {
		if length == maxLength {
			return text[:i] + "…"
		}
		length++
	}
	return text
}

// escape writes each control as strconv.Quote does. A backslash stays as it is: the text is for people, and no program parses it.
func escape(text string, keepNewlines bool) string {
	if strings.IndexFunc(text, mayNeedEscape) < 0 && (keepNewlines || !strings.Contains(text, "\n")) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1: // not UTF-8: a terminal with 8-bit controls acts on 0x80 to 0x9f
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case r == '\n' && keepNewlines || !isControl(r):
			b.WriteString(text[:size])
		default:
			b.WriteString(escapeRune(r))
		}
		text = text[size:]
	}
	return b.String()
}

func escapeRune(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r < utf8.RuneSelf:
		return fmt.Sprintf(`\x%02x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// mayNeedEscape reports whether text with this rune must be escaped byte by byte. utf8.RuneError stands for a byte that is
// not UTF-8 as well as for itself.
func mayNeedEscape(r rune) bool { return r == utf8.RuneError || isControl(r) && r != '\n' }

// isControl reports whether a terminal may act on a rune. A tab only moves to the next column.
func isControl(r rune) bool {
	switch {
	case r == '\t':
		return false
	case r < 0x20, r >= 0x7f && r <= 0x9f: // C0, DEL, C1 (ECMA-48)
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, // implicit marks (UAX #9)
		r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // embeddings, overrides, isolates
		return true
	case r == 0x2028, r == 0x2029: // line and paragraph separator
		return true
	}
	return false
}
