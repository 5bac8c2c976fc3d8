package shellhook_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// trickyValues returns values with special characters, and with every byte alone and next to others.
func trickyValues() (values []string) {
	for b := 1; b < 256; b++ {
		c := string([]byte{byte(b)})
		values = append(values, c, "a"+c, c+"a", c+c, "'"+c, c+"'", `\`+c, c+`\`)
	}
	var all []byte
	for b := 1; b < 256; b++ {
		all = append(all, byte(b))
	}
	return append(values, "", string(all), `\\`, `\\\`, `'\''`, `x\'`, "$(x)", "`x`", "$x", "!x!!", "~", "=ls", "-n", "--",
		"\n\n", "x\n", "\r\n", "é", "日本語\\", "\xc3", "\xe6\x97", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\u00a0", "\u2028",
		"\uf600", "\uf6ff", "\ufdd0", "\uf730", "\ue000", "\U0010ffff", "\ufeff", "e\u0301", `\xff`, `\u00e9`, "%s%n", "a:b:", ":")
}

// roundTrip has a shell evaluate statements that export the values, as the hook does, and returns the values that a program started by
// that shell receives.
func roundTrip(t testingT, dir, shell, locale string, values []string) []string {
	t.Helper()
	text := ""
	for i, value := range values {
		text += export(t, shell, fmt.Sprintf("V%d", i), value)
	}
	path := filepath.Join(dir, "statements")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`eval "$(cat %s)"; exec env -0`, path)
	args := []string{"-c", script}
	switch shell {
	case "fish":
		args = []string{"--no-config", "-c", fmt.Sprintf("cat %s | source; exec env -0", path)}
	case "zsh":
		args = []string{"-f", "-c", script}
	}
	cmd := exec.Command(shell, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=" + locale, "HOME=" + dir}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s in locale %s: %v", shell, locale, err)
	}
	return readRoundTrip(string(out), len(values))
}

// readRoundTrip returns the values of V0, V1 and so on in the output of "env -0".
func readRoundTrip(environ string, count int) []string {
	got := make([]string, count)
	for entry := range strings.SplitSeq(environ, "\x00") {
		var i int
		name, value, _ := strings.Cut(entry, "=")
		if n, _ := fmt.Sscanf(name, "V%d", &i); n == 1 {
			got[i] = value
		}
	}
	return got
}

// testingT is a *testing.T or a *rapid.T.
type testingT interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// export returns the statement that exports a variable; for sh, that of `localport env --format sh`.
func export(t testingT, shell, name, value string) string {
	if shell == "sh" {
		return "export " + name + "=" + shellhook.Quote(value) + ";\n"
	}
	sh, err := shellhook.Lookup(shell)
	if err != nil {
		t.Fatal(err)
	}
	return sh.Export(name, value)
}

func eachLocale(t *testing.T, f func(t *testing.T, shell, locale string)) {
	for _, shell := range []string{"bash", "zsh", "fish", "sh"} {
		for _, locale := range []string{"C.UTF-8", "C"} {
			t.Run(shell+" "+locale, func(t *testing.T) {
				if _, err := exec.LookPath(shell); err != nil {
					t.Skipf("%s is not installed", shell)
				}
				t.Parallel()
				f(t, shell, locale)
			})
		}
	}
}

func compare(t testingT, got, want []string) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q came back as %q", want[i], got[i])
		}
	}
}

func TestQuote_RoundTripsEveryByte(t *testing.T) {
	eachLocale(t, func(t *testing.T, shell, locale string) {
		compare(t, roundTrip(t, t.TempDir(), shell, locale, trickyValues()), trickyValues())
	})
}

func TestQuote_RoundTripsEveryString(t *testing.T) {
	removeNUL := func(s string) string { return strings.ReplaceAll(s, "\x00", "") }
	value := rapid.OneOf(
		rapid.Map(rapid.String(), removeNUL),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return removeNUL(string(b)) }),
		rapid.StringOfN(rapid.RuneFrom([]rune("'\\\"$`! \n\t#;&|(){}[]*?~=-é\uf6aax")), 0, 20, -1),
	)
	eachLocale(t, func(t *testing.T, shell, locale string) {
		dir := t.TempDir()
		rapid.Check(t, func(t *rapid.T) {
			values := rapid.SliceOfN(value, 1, 50).Draw(t, "values")
			compare(t, roundTrip(t, dir, shell, locale, values), values)
		})
	})
}

func TestSet_IsNotExportedAndUnsetRemoves(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		sh, err := shellhook.Lookup(shell)
		if err != nil {
			t.Fatal(err)
		}
		s := shellpty.Start(t, shellpty.Config{Shell: shell})
		evaluate := func(text string) { // as a hook does
			t.Helper()
			path := filepath.Join(w.dir, "text")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s.Run(map[string]string{"fish": "cat " + path + " | source"}[shell] +
				map[string]string{"bash": `eval "$(cat ` + path + `)"`, "zsh": `eval "$(cat ` + path + `)"`}[shell])
		}
		for _, value := range []string{"", `it's \`, "new\nline ", "\xff\\'"} {
			evaluate(sh.Set("__localport_x", value) + sh.Export("EXPORTED", value) + sh.Export("MY_PATH", value+":b"))
			if got := s.Eval(`"$__localport_x"`); got != value {
				t.Errorf("%q came back as %q", value, got)
			}
			env := s.Environ()
			if _, exported := env["__localport_x"]; exported {
				t.Errorf("Set exports")
			}
			if env["EXPORTED"] != value || env["MY_PATH"] != value+":b" {
				t.Errorf("%q is %q, with a colon %q in the environment", value, env["EXPORTED"], env["MY_PATH"])
			}
		}
		evaluate(sh.Unset("EXPORTED") + sh.Unset("__localport_x") + sh.Unset("NEVER_SET"))
		if env := s.Environ(); env["EXPORTED"] != "" || s.Eval(`"$__localport_x"`) != "" {
			t.Errorf("still set after Unset")
		}
		if out := s.Output(); out != "" {
			t.Errorf("printed %q", out)
		}
	})
}

func TestShell_InvalidNameYieldsNoStatement(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		sh, err := shellhook.Lookup(shell)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"", "1X", "A-B", "A;ls", "A B", "A\n", "É", "$(ls)", "A=B"} {
			if text := sh.Export(name, "x") + sh.Set(name, "x") + sh.Unset(name); text != "" {
				t.Errorf("%s: the name %q yields %q", shell, name, text)
			}
		}
	}
}

func TestLookup_FindsShellsByNameAndListsThem(t *testing.T) {
	for name, want := range map[string]string{"bash": "bash", "/usr/bin/fish": "fish", "-zsh": "zsh"} {
		if sh, err := shellhook.Lookup(name); err != nil || sh.Name() != want {
			t.Errorf("Lookup(%q) = %v, %v", name, sh, err)
		}
	}
	for name, want := range map[string]string{
		"bsh":        `unsupported shell "bsh" (bash, zsh, fish, tcsh, elvish, nu, pwsh)`,
		"powershell": `unsupported shell "powershell" (bash, zsh, fish, tcsh, elvish, nu, pwsh)`,
		"":           `unsupported shell "" (bash, zsh, fish, tcsh, elvish, nu, pwsh)`,
	} {
		if _, err := shellhook.Lookup(name); err == nil || err.Error() != want {
			t.Errorf("Lookup(%q): %v, want %s", name, err, want)
		}
	}
}
