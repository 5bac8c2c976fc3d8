package printable

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// unsafeTexts holds every kind of text that must not reach a terminal.
var unsafeTexts = []struct{ name, text, line string }{
	{"a colour sequence", "\x1b[31mred", `\x1b[31mred`},
	{"a window title", "\x1b]0;owned\a", `\x1b]0;owned\x07`},
	{"a carriage return", "no\rok", `no\rok`},
	{"a line break", "a\nlocalport: all is well", `a\nlocalport: all is well`},
	{"a backspace", "rm\b\bls", `rm\x08\x08ls`},
	{"DEL", "a\x7fb", `a\x7fb`},
	{"NUL", "a\x00b", `a\x00b`},
	{"C1 as UTF-8", "\u009b31m", `\u009b31m`},
	{"C1 as a byte", "\x9b31m", `\x9b31m`},
	{"an override of the direction", "exe.\u202etxt", `exe.\u202etxt`},
	{"an isolate", "\u2066a\u2069", `\u2066a\u2069`},
	{"marks of the direction", "\u200e\u200f\u061c", `\u200e\u200f\u061c`},
	{"separators", "a\u2028b\u2029c", `a\u2028b\u2029c`},
	{"half a rune", "caf\xc3", `caf\xc3`},
	{"a surrogate", "\xed\xa0\x80", `\xed\xa0\x80`},
}

func TestEscapeLine_EscapesWhatATerminalActsOn(t *testing.T) {
	for _, c := range unsafeTexts {
		t.Run(c.name, func(t *testing.T) {
			if got := EscapeLine(c.text); got != c.line {
				t.Errorf("EscapeLine(%q) = %s, want %s", c.text, got, c.line)
			}
		})
	}
}

func TestEscapeLine_LeavesPrintableText(t *testing.T) {
	for _, text := range []string{
		"", "plain", "a\tb", `C:\x1b\n`, "Zürich 東京 🧑‍🚀 مرحبا שלום", "soft\u00adhyphen no\u00a0break \ufeff \ufffd",
	} {
		if got := EscapeLine(text); got != text {
			t.Errorf("EscapeLine(%q) = %q", text, got)
		}
	}
}

func TestEscapeText_KeepsLines(t *testing.T) {
	if got, want := EscapeText("one\n\ttwo\r\n\x1b[2J"), "one\n\ttwo\\r\n\\x1b[2J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEscapeJSON_KeepsTheMeaning(t *testing.T) {
	for _, c := range unsafeTexts {
		data, err := json.Marshal(c.text)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		if err := json.Unmarshal(data, &before); err != nil {
			t.Fatal(err)
		}
		escaped := EscapeJSON(data)
		if err := json.Unmarshal(escaped, &after); err != nil {
			t.Fatalf("%s: %s: %v", c.name, escaped, err)
		}
		if before != after {
			t.Errorf("%s: %s means %q, want %q", c.name, escaped, after, before)
		}
		checkSafe(t, string(escaped), false)
	}
}

func TestTruncate_CutsBetweenCharacters(t *testing.T) {
	for text, want := range map[string]string{"": "", "abc": "abc", "abcd": "abc…", "äöü": "äöü", "日本語です": "日本語…", "ab\xff\xff": "ab\xff…"} {
		if got := Truncate(text, 3); got != want {
			t.Errorf("Truncate(%q, 3) = %q, want %q", text, got, want)
		}
	}
}

func FuzzEscapeLine(f *testing.F) {
	for _, c := range unsafeTexts {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line, lines := EscapeLine(text), EscapeText(text)
		checkSafe(t, line, false)
		checkSafe(t, lines, true)
		if string(EscapeBytes([]byte(text))) != lines {
			t.Errorf("EscapeBytes and EscapeText differ for %q", text)
		}
		if EscapeLine(line) != line || EscapeText(lines) != lines {
			t.Errorf("escaping %q twice changes it again", text)
		}
		if !strings.ContainsFunc(text, isForbidden) && utf8.ValidString(text) && line != text {
			t.Errorf("EscapeLine(%q) = %q", text, line)
		}
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		checkSafe(t, string(EscapeJSON(data)), false)
	})
}

func checkSafe(t *testing.T, text string, lines bool) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%q is not UTF-8", text)
	}
	for _, r := range text {
		if isForbidden(r) && (!lines || r != '\n') {
			t.Errorf("%q holds %U", text, r)
		}
	}
}

// isForbidden lists the controls a second time, so that a mistake in isControl shows.
func isForbidden(r rune) bool {
	const listed = "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
	return r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || strings.ContainsRune(listed, r)
}
