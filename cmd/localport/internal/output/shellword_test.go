package output

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestShellWord_IsReadBackByShells has the shells print what they read. "" is a shell that is not known: its words are read by sh's family and, if they are
// printable, by fish.
func TestShellWord_IsReadBackByShells(t *testing.T) {
	for _, c := range []struct {
		calling string
		command []string // reads a line of a script
		verb    string
	}{
		{"bash", []string{"bash", "-c"}, "printf"},
		{"zsh", []string{"zsh", "-f", "-c"}, "printf"},
		{"fish", []string{"fish", "--no-config", "-c"}, "printf"},
		{"tcsh", []string{"tcsh", "-f", "-c"}, "/usr/bin/printf"},
		{"elvish", []string{"elvish", "-norc", "-c"}, "e:printf"},
		{"nu", []string{"nu", "--no-config-file", "-c"}, "^printf"},
		{"", []string{"bash", "-c"}, "printf"},
		{"", []string{"zsh", "-f", "-c"}, "printf"},
		{"", []string{"fish", "--no-config", "-c"}, "printf"},
	} {
		t.Run(c.calling+" "+c.command[0], func(t *testing.T) {
			if _, err := exec.LookPath(c.command[0]); err != nil {
				t.Skipf("%s is not installed", c.command[0])
			}
			before := FindCallingShell
			FindCallingShell = func() string { return c.calling }
			defer func() { FindCallingShell = before }()
			runes, ends := "a '\"\\$`!\n\t\x1b\x7f\u0085\u202eé0@%", []string{"", "\xff", "\n"}
			if c.calling == "" && c.command[0] == "fish" {
				runes, ends = "a '\"\\$`!é0@%", []string{""}
			}
			rapid.Check(t, func(t *rapid.T) {
				var texts, words []string
				for range 20 {
					text := rapid.StringOf(rapid.SampledFrom([]rune(runes))).Draw(t, "text") + rapid.SampledFrom(ends).Draw(t, "end")
					if c.calling == "nu" {
						text = strings.ToValidUTF8(text, "")
					}
					word := ShellWord(text)
					texts, words = append(texts, text), append(words, word)
					// tcsh and nushell escape only ASCII.
					mayShow := (c.calling == "tcsh" || c.calling == "nu") && (strings.ContainsAny(text, "\u0085\u202e") || !utf8.ValidString(text))
					if EscapeLine(word) != word && !mayShow {
						t.Fatalf("%q is not printable", word)
					}
				}
				cmd := exec.Command(c.command[0], append(c.command[1:], c.verb+` '%s\0' `+strings.Join(words, " "))...)
				cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+filepath.Join(os.TempDir(), "nowhere"))
				output, err := cmd.Output()
				if want := strings.Join(texts, "\x00") + "\x00"; err != nil || string(output) != want {
					t.Fatalf("%s: %v, %q, want %q", c.command[0], err, output, want)
				}
			})
		})
	}
}
