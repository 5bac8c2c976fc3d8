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
	"github.com/localport-sh/localport/testdata/dockerengine"
)

// values are those that readers are known to change, by the name of their variable.
var values = map[string]string{
	"PLAIN": "5432", "URL": "postgres://me:pw@127.0.0.1:5432/db?sslmode=disable&x=1", "EMPTY": "", "SPACES": "  two  words ", "HASH": "a #b",
	"DOLLAR": "${HOME} $(id) $$", "QUOTES": `it's "here"`, "BOTH": "it's `id` $(id)", "BACKSLASH": `a\nb\`, "MULTILINE": "one\ntwo\n", "CR": "a\rb", "BACKTICK": "`id`",
	"QUOTED": `"quoted"`, "SINGLE": `'single'`, "HEREDOC": "<<EOF", "EQUALS": "a=b=c", "UNICODE": "Grüße", "SEMICOLON": "a; exit 3", "TILDE": "~/x", "EXPORT": "export A=b",
	"BANG": "a!b", "PERCENT": "100%", "LEADING": " x", "TRAILING": "x ", "TABS": "\tx\t", "HASH_FIRST": "#x", "BLANK_HASH": " #x", "NO_BREAK_SPACE": "\u00a0x\u00a0",
	"QUOTE_AND_BACKTICK": "it's `touch ran`7", "QUOTE_AND_BACKSLASH": `it's \`, "ALL": "'\"`touch ran`$(touch ran)\\\n'\"`touch ran`", "NOT_UTF8": "a\xff`b\xc3",
	"NOT_UTF8_QUOTE": "it's \xff", "OCTAL": `it's \0140`, "NEWLINE_FIRST": "\nx", "CRLF": "a\r\nb",
}

// notUTF8 and lineBreaks name the values that some formats cannot express.
var (
	notUTF8    = []string{"NOT_UTF8", "NOT_UTF8_QUOTE"}
	lineBreaks = []string{"ALL", "CR", "CRLF", "MULTILINE", "NEWLINE_FIRST"}
)

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
	"json": {{"jq", readJQ}, {"encoding/json", func(t *testing.T, text string) (got map[string]string) {
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
	"docker": {{"docker", readDocker}, {"kubectl", readKubectl}},
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

// readDocker reads the text as --env-file of the docker program does.
func readDocker(t *testing.T, text string) map[string]string {
	t.Helper()
	engine := dockerengine.Start(t)
	cmd := exec.Command("docker", "create", "--env-file", writeFile(t, text), "image")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DOCKER_HOST=" + engine.Host}
	out, _ := cmd.CombinedOutput() // the engine creates nothing
	env := engine.Environment()
	if env == nil {
		t.Fatalf("docker: %s in\n%s", out, text)
	}
	return env
}

// readJQ reads the text as scripts do.
func readJQ(t *testing.T, text string) map[string]string {
	t.Helper()
	out, err := exec.Command("jq", "--join-output", `to_entries[] | .key + "=" + .value + "\u0000"`, writeFile(t, text)).Output()
	if err != nil {
		t.Fatalf("jq: %v in\n%s", err, text)
	}
	got := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		got[name] = value
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
		inexpressible := map[string][]string{"json": notUTF8, "github": notUTF8, "docker": slices.Sorted(slices.Values(slices.Concat(notUTF8, lineBreaks)))}[format]
		var names []string
		for _, v := range omitted {
			names = append(names, v.Name)
			delete(want, v.Name)
			if isBreak := slices.Contains(lineBreaks, v.Name); isBreak != (v.Reason == "its value has a line break") {
				t.Errorf("%s omits %s: %s", format, v.Name, v.Reason)
			}
		}
		if !slices.Equal(names, inexpressible) {
			t.Errorf("%s omits %v, want %v", format, names, inexpressible)
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

// The format is not for shells, and a shell reads some values otherwise. But it runs none of them.
func TestFormat_DotenvRunsNothingInAShell(t *testing.T) {
	for _, shell := range []string{"sh", "bash", "zsh"} {
		for _, v := range list(values) {
			text, _, err := Format("dotenv", []project.Variable{v})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(shell, "-c", ". "+writeFile(t, text))
			cmd.Dir = t.TempDir()
			_ = cmd.Run()
			if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
				t.Errorf("%s runs %s", shell, text)
			}
		}
	}
}

// kubectl, docker, make and GitHub's runner take quotes literally: they read a file of the format dotenv whose values need none.
func TestFormat_BareDotenvIsReadByLiteralReaders(t *testing.T) {
	want := map[string]string{
		"A": "5432", "B": "postgres://me:pw@127.0.0.1:5432/db?sslmode=disable", "C": "100%", "D": "a,b+c=d-e_f.g/h:i", "E": "",
	}
	text, _, err := Format("dotenv", list(want))
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(*testing.T, string) map[string]string{"docker": readDocker, "kubectl": readKubectl, "the runner": readRunner, "make": readMake} {
		if got := read(t, text); !maps.Equal(got, want) {
			t.Errorf("%s reads %q, want %q", name, got, want)
		}
	}
}

// readMake reads the text as a makefile's include does.
func readMake(t *testing.T, text string) map[string]string {
	t.Helper()
	makefile := "include " + writeFile(t, text) + "\n$(foreach name,A B C D E,$(info $(name)=$($(name))))\nall:;@:\n"
	out, err := exec.Command("make", "-s", "-f", writeFile(t, makefile)).Output()
	if err != nil {
		t.Fatalf("make: %v in\n%s", err, text)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	return got
}

// docker refuses a file with a longer line.
func TestFormat_DockerOmitsWhatIsTooLong(t *testing.T) {
	longest := strings.Repeat("x", maxDockerLine-len("A="))
	text, omitted, err := Format("docker", []project.Variable{{Name: "A", Value: longest}, {Name: "B", Value: longest + "x"}})
	if err != nil || len(omitted) != 1 || omitted[0].Name != "B" {
		t.Fatalf("it omits %v, %v", omitted, err)
	}
	for _, reader := range readers["docker"] {
		if got := reader.read(t, text); got["A"] != longest {
			t.Errorf("%s reads %d bytes of %d", reader.name, len(got["A"]), len(longest))
		}
	}
}

func TestFormat_DotenvIsBareWhereThatIsSafe(t *testing.T) {
	for value, want := range map[string]string{
		"5432": "5432", "postgres://me@127.0.0.1:5432/db?sslmode=disable": "postgres://me@127.0.0.1:5432/db?sslmode=disable", "": "",
		"a b": "'a b'", "a#b": "'a#b'", "a&b": "'a&b'", "$A": "'$A'", "it's": `"it's"`, "a\nb": `"a\nb"`, "it's $A": `"it's \$A"`, "`a`": "'`a`'", "it's `a`": `"it's \0140a\0140"`,
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
