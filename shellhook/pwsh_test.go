package shellhook_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/shellhook"
)

func lookupPwsh(t testingT) shellhook.Shell {
	t.Helper()
	sh, err := shellhook.Lookup("/usr/bin/pwsh")
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

// isPwshQuote reports whether PowerShell takes a character for a single quote (about_Quoting_Rules; CharTraits.cs, IsSingleQuote).
func isPwshQuote(r rune) bool { return slices.Contains([]rune("'\u2018\u2019\u201a\u201b"), r) }

// readPwshString reads a string in single quotes at the beginning of text as PowerShell's tokenizer does (ScanStringLiteral): a quote ends it unless
// another follows, which is then part of the value.
func readPwshString(t testingT, text string) (value, rest string) {
	t.Helper()
	if !strings.HasPrefix(text, "'") {
		t.Fatalf("no string: %q", text)
	}
	runes := []rune(text)[1:]
	for i := 0; i < len(runes); i++ {
		if isPwshQuote(runes[i]) {
			if i+1 == len(runes) || !isPwshQuote(runes[i+1]) {
				return value, string(runes[i+1:])
			}
			i++
		}
		value += string(runes[i])
	}
	t.Fatalf("the string does not end: %q", text)
	return "", ""
}

// readPwshExpression evaluates what Export and Set write after the sign of equality: a string, or ('…'+[char]10+'…').
func readPwshExpression(t testingT, text string) string {
	t.Helper()
	inner, isSum := strings.CutPrefix(text, "(")
	if !isSum {
		value, rest := readPwshString(t, text)
		if rest != ";\n" {
			t.Fatalf("after the string: %q in %q", rest, text)
		}
		return value
	}
	value, rest := readPwshString(t, inner)
	for rest != ");\n" {
		number, after, hasNumber := strings.Cut(strings.TrimPrefix(rest, "+[char]"), "+")
		if !strings.HasPrefix(rest, "+[char]") || !hasNumber {
			t.Fatalf("after a string: %q in %q", rest, text)
		}
		code := rune(0)
		for _, digit := range number {
			if digit < '0' || digit > '9' {
				t.Fatalf("the number %q in %q", number, text)
			}
			code = code*10 + digit - '0'
		}
		var part string
		part, rest = readPwshString(t, after)
		value += string(code) + part
	}
	return value
}

// checkPwshQuoting fails the test unless PowerShell reads a value back from one line of output, with U+FFFD for bytes that are not UTF-8.
func checkPwshQuoting(t testingT, value string) {
	t.Helper()
	statement := lookupPwsh(t).Export("NAME", value)
	expression, hasPrefix := strings.CutPrefix(statement, "$env:NAME = ")
	if !hasPrefix || strings.Count(statement, "\n") != 1 || strings.ContainsAny(statement, "\r\x00") {
		t.Fatalf("for %q the statement is %q", value, statement)
	}
	want := string([]rune(value))
	if got := readPwshExpression(t, string([]rune(expression))); got != want {
		t.Errorf("%q came back as %q from %q", want, got, statement)
	}
}

func TestPwsh_QuotesEveryString(t *testing.T) {
	for _, value := range append(trickyValues(), "‘a’", "it’s", "‚x‛", "'‘", "’'", "’’", "a’\nb", "“double”", "'; rm -rf ~; '", "’; rm -rf ~; ’") {
		checkPwshQuoting(t, value)
	}
	removeNUL := func(s string) string { return strings.ReplaceAll(s, "\x00", "") }
	value := rapid.OneOf(
		rapid.Map(rapid.String(), removeNUL),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return removeNUL(string(b)) }),
		rapid.StringOfN(rapid.RuneFrom([]rune("'‘’‚‛\"“”„`$ \n\r\t;#()+x")), 0, 20, -1),
	)
	rapid.Check(t, func(t *rapid.T) { checkPwshQuoting(t, value.Draw(t, "value")) })
}

func FuzzPwsh_Quoting(f *testing.F) {
	for _, seed := range []string{"", "it's", "it’s", "‘\n’", "a\rb", "\xff'", "$env:X `n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if !strings.Contains(value, "\x00") {
			checkPwshQuoting(t, value)
		}
	})
}

func TestPwsh_Statements(t *testing.T) {
	sh, previous := lookupPwsh(t), "it's"
	for got, want := range map[string]string{
		sh.Export("A", ""):                       "$env:A = '';\n",
		sh.Save("A", "x", true):                  "$env:A = 'x';\n",
		sh.Unset("A"):                            "$env:A = $null;\n",
		sh.Restore("A", nil):                     "$env:A = $null;\n",
		sh.Restore("A", &previous):               "$env:A = 'it''s';\n",
		sh.Set("__localport_line", "a\nb"):       "$global:__localport_line = ('a'+[char]10+'b');\n",
		sh.Watch([]string{"A", "B-C", "D"}):      "$global:__localport_uses = @('A', 'D');\n",
		sh.Watch(nil):                            "$global:__localport_uses = @();\n",
		sh.Export("A;ls", "x") + sh.Unset("$(x"): "",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// parsePwsh has two parsers of PowerShell read texts, and returns what they say.
const parsePwsh = `
import importlib, sys
from tree_sitter import Language, Parser
for name in ["tree_sitter_powershell", "tree_sitter_pwsh"]:
    parser = Parser(Language(importlib.import_module(name).language()))
    for path in sys.argv[1:]:
        text = open(path, "rb").read()
        nodes, count = [parser.parse(text).root_node], 0
        while nodes:
            node = nodes.pop()
            count += 1
            if node.is_missing or node.type == "ERROR":
                print(f"{name}: {path}:{node.start_point.row + 1}: {node.type} {text[node.start_byte:node.end_byte][:60]}")
            nodes += node.children
        if count < 3:
            print(f"{name}: {path}: read nothing")
`

// PowerShell itself is not to be had in CI.
func TestPwsh_ParsersReadTheHook(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	dir, sh := t.TempDir(), lookupPwsh(t)
	statements := ""
	for _, value := range trickyValues() {
		if utf8.ValidString(value) {
			statements += sh.Export("NAME", value) + sh.Set("__localport_line", value)
		}
	}
	texts := map[string]string{
		"hook.ps1":       sh.Hook("/it's/localport"),
		"statements.ps1": statements + sh.Unset("NAME") + sh.Watch(nil) + sh.Watch([]string{"A", "B"}),
		"invalid.ps1":    "function f { if ($x { }\n",
	}
	parse := func(name string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(texts[name]), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(python, "-c", parsePwsh, path)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(toolsDir(t), "parsers"), "PYTHONDONTWRITEBYTECODE=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	for _, name := range []string{"hook.ps1", "statements.ps1"} {
		if out := parse(name); out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
	if out := parse("invalid.ps1"); strings.Count(out, "ERROR")+strings.Count(out, "MISSING") == 0 {
		t.Errorf("the parsers accept %q: %q", texts["invalid.ps1"], out)
	}
}
