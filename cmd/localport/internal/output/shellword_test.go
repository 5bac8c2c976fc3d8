package output

import (
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestShellWord_IsReadBackByShells has bash and zsh print what they read.
func TestShellWord_IsReadBackByShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh"} {
		rapid.Check(t, func(t *rapid.T) {
			var texts, words []string
			for range 20 {
				text := rapid.StringOf(rapid.SampledFrom([]rune("a '\"\\$`!\n\t\x1b\x7f\u0085\u202eé0"))).Draw(t, "text") + rapid.SampledFrom([]string{"", "\xff", "\n"}).Draw(t, "end")
				texts, words = append(texts, text), append(words, ShellWord(text))
				if EscapeLine(ShellWord(text)) != ShellWord(text) {
					t.Fatalf("%q is not printable", ShellWord(text))
				}
			}
			output, err := exec.Command(shell, "-c", `printf '%s\0' `+strings.Join(words, " ")).Output()
			if want := strings.Join(texts, "\x00") + "\x00"; err != nil || string(output) != want {
				t.Fatalf("%s: %v, %q, want %q", shell, err, output, want)
			}
		})
	}
}
