package envformat

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/project"
)

// values are those that readers are known to change, by the name of their variable.
var values = map[string]string{
	"PLAIN": "5432", "URL": "postgres://me:pw@127.0.0.1:5432/db?sslmode=disable&x=1", "EMPTY": "", "SPACES": "  two  words ", "HASH": "a #b",
	"DOLLAR": "${HOME} $(id) $$", "QUOTES": `it's "here"`, "BOTH": "it's `id` $(id)", "BACKSLASH": `a\nb\`, "MULTILINE": "one\ntwo\n", "CR": "a\rb", "BACKTICK": "`id`",
	"QUOTED": `"quoted"`, "SINGLE": `'single'`, "HEREDOC": "<<EOF", "EQUALS": "a=b=c", "UNICODE": "Grüße", "SEMICOLON": "a; exit 3", "TILDE": "~/x", "EXPORT": "export A=b",
	"BANG": "a!b", "PERCENT": "100%",
}

func list(values map[string]string) (variables []project.Variable) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		variables = append(variables, project.Variable{Name: name, Value: values[name]})
	}
	return variables
}

// readers read text in a format with the program that reads it in practice.
var readers = map[string][]struct {
	name string
	read func(t *testing.T, text string) map[string]string
}{
	"sh":   {{"sh", readShell("sh", `. "$1"`)}, {"bash", readShell("bash", `. "$1"`)}, {"zsh", readShell("zsh", `. "$1"`)}},
	"fish": {{"fish", readShell("fish", `source "$argv[1]"`)}},
	"json": {{"encoding/json", func(t *testing.T, text string) (got map[string]string) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}}},
	"dotenv": {{"docker compose", func(t *testing.T, text string) map[string]string {
		t.Helper()
		got, err := dotenv.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return got
	}}},
	"github": {{"the runner", readRunner}},
	"docker": {{"kubectl", readKubectl}},
}

// readShell returns a reader that evaluates the text in a shell and reads the environment of a program that it starts.
func readShell(shell, script string) func(t *testing.T, text string) map[string]string {
	return func(t *testing.T, text string) map[string]string {
		t.Helper()
		file := writeFile(t, text)
		args := []string{"-c", script + `; env -0`, shell, file}
		if shell == "fish" {
			args = []string{"--no-config", "-c", script + `; env -0`, file}
		}
		cmd := exec.Command(shell, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v in\n%s", shell, err, text)
		}
		got := map[string]string{}
		for entry := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			name, value, _ := strings.Cut(entry, "=")
			got[name] = value
		}
		return got
	}
}

// readRunner reads $GITHUB_ENV as actions/runner does (src/Runner.Worker/FileCommandManager.cs): in each line, whichever of "=" and "<<"
// comes first says whether the value is the rest of the line or the lines up to the delimiter.
func readRunner(t *testing.T, text string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for text != "" {
		line, rest, _ := strings.Cut(text, "\n")
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		if heredoc < 0 || equals >= 0 && equals < heredoc {
			got[line[:equals]], text = line[equals+1:], rest
			continue
		}
		value, after, isFound := strings.Cut(rest, "\n"+line[heredoc+2:]+"\n")
		if !isFound {
			t.Fatalf("no delimiter %s in %q", line[heredoc+2:], rest)
		}
		got[line[:heredoc]], text = value, after
	}
	return got
}

// readKubectl reads the text as --from-env-file does, whose rules are those of docker's --env-file.
func readKubectl(t *testing.T, text string) map[string]string {
	t.Helper()
	cmd := exec.Command("kubectl", "create", "configmap", "test", "--dry-run=client", "-o", "json", "--from-env-file", writeFile(t, text))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "KUBECONFIG=/dev/null"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl: %v in\n%s", err, text)
	}
	var object struct{ Data map[string]string }
	if err := json.Unmarshal(out, &object); err != nil {
		t.Fatal(err)
	}
	return object.Data
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "variables")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFormat_IsReadBackByItsReaders(t *testing.T) {
	for _, format := range Names {
		text, omitted, err := Format(format, list(values))
		if err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(values)
		if format == "docker" {
			if !slices.Equal(omitted, []string{"CR", "MULTILINE"}) {
				t.Errorf("docker omits %v", omitted)
			}
			delete(want, "CR")
			delete(want, "MULTILINE")
		} else if len(omitted) > 0 {
			t.Errorf("%s omits %v", format, omitted)
		}
		if len(readers[format]) == 0 {
			t.Errorf("no reader of %s", format)
		}
		for _, reader := range readers[format] {
			got := reader.read(t, text)
			for name, value := range want {
				if got[name] != value {
					t.Errorf("%s read by %s: %s is %q, want %q", format, reader.name, name, got[name], value)
				}
			}
		}
	}
}

func TestFormat_DotenvIsBareWhereThatIsSafe(t *testing.T) {
	for value, want := range map[string]string{
		"5432": "5432", "postgres://me@127.0.0.1:5432/db?sslmode=disable": "postgres://me@127.0.0.1:5432/db?sslmode=disable", "": "",
		"a b": "'a b'", "a#b": "'a#b'", "a&b": "'a&b'", "$A": "'$A'", "it's": `"it's"`, "a\nb": `"a\nb"`, "it's $A": `"it's \$A"`,
	} {
		text, _, err := Format("dotenv", []project.Variable{{Name: "A", Value: value}})
		if err != nil || text != "A="+want+"\n" {
			t.Errorf("%q is written as %q, %v; want %q", value, text, err, want)
		}
	}
}

// A value of $GITHUB_ENV cannot set another variable.
func TestFormat_GitHubIsReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := map[string]string{"A": rapid.StringMatching(`[A<=\n\r "']{0,12}`).Draw(rt, "a"), "B": "next"}
		text, _, err := Format("github", list(want))
		if err != nil {
			rt.Fatal(err)
		}
		if got := readRunner(t, text); !maps.Equal(got, want) {
			rt.Fatalf("got %q, want %q, from %q", got, want, text)
		}
	})
}

func FuzzFormat_DotenvIsReadBackByCompose(f *testing.F) {
	for _, value := range values {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsRune(value, 0) {
			return // no environment holds it
		}
		text, _, err := Format("dotenv", []project.Variable{{Name: "A", Value: value}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := dotenv.Parse(strings.NewReader(text))
		if err != nil || got["A"] != value {
			t.Errorf("%q, %v; want %q, from %q", got["A"], err, value, text)
		}
	})
}
