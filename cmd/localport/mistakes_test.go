package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/mistakes"
)

// Each mistake is in testdata/mistakes with what is said about it. After a change of a message: go test ./cmd/localport -run Mistakes -update.
func TestMistakes_EachSaysWhatToWrite(t *testing.T) {
	isolateConfigCommands(t)
	all := mistakes.All()
	if len(all) < 110 {
		t.Fatalf("only %d mistakes", len(all))
	}
	for i, m := range all {
		dir := writeMistake(t, m)
		_, said := runInProcess(t, dir, "config", "validate")
		said = strings.ReplaceAll(said, dir+"/", "")
		said = strings.ReplaceAll(said, userConfigDir()+"/", "")
		if !*update && said != m.Output {
			t.Errorf("%s:\n%s\nsays\n%s\nwant\n%s", m.Name, m.Config, said, m.Output)
		}
		all[i].Output = said
	}
	if *update {
		if err := mistakes.Rewrite(all); err != nil {
			t.Fatal(err)
		}
	}
}

// The words that people know from other tools are all in the table.
func TestMistakes_HaveTheWordsOfOtherTools(t *testing.T) {
	t.Parallel()
	var configs []string
	for _, m := range mistakes.All() {
		configs = append(configs, "\n"+m.Config)
	}
	for _, word := range []string{
		"\n[api]\n", "\ntype = ", `ports = "8080:80"`, `technology = "k8s"`, "\nsvc = ", "identity_file = ", "proxy_jump = ", "password = ", `resource = "svc/`, "${port}", "\nhealth_check = \"http\"",
		"config = { path", "env_file = ", `remote_host = "db.internal:5432"`, `remote_host = "http://`, `host = "me@bastion:2222"`, `resource_name="svc/`, "key_file = ", `command = ["nosuchprog"`,
		"idle_timeout = ", `version = "1.0"`, `"$HOME/`, "\ntags = [\"web\"]\n", ": ",
	} {
		if !slices.ContainsFunc(configs, func(config string) bool { return strings.Contains(config, word) }) {
			t.Errorf("no mistake has %q", word)
		}
	}
}

// writeMistake writes the files of a mistake, and returns the project's directory.
func writeMistake(t *testing.T, m mistakes.Mistake) string {
	t.Helper()
	dir := t.TempDir()
	writeConfig(t, dir, m.Config)
	if err := os.RemoveAll(userConfigDir()); err != nil {
		t.Fatal(err)
	}
	for name, text := range m.Files {
		path := filepath.Join(dir, name)
		if name == "config.toml" {
			path = filepath.Join(userConfigDir(), name)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// userConfigDir is the directory of the user's config of isolateConfigCommands.
func userConfigDir() string { return filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "localport") }

// Whoever meets a mistake first, a command or a prompt, says the same of it as validate.
func TestMistakes_AllCommandsSayTheSame(t *testing.T) {
	isolateConfigCommands(t)
	count := 0
	for _, m := range mistakes.All() {
		dir := writeMistake(t, m)
		code, said := runInProcess(t, dir, "config", "validate")
		if code != output.ExitInvalid || m.Files["config.toml"] != "" {
			continue // nothing is wrong with the project
		}
		want := firstError(said)
		var stdout, stderr strings.Builder
		printMistake(&app{out: output.NewWriter(&stdout), err: output.NewWriter(&stderr)}, filepath.Join(dir, project.ConfigName))
		var mistake prompt.Mistake
		if err := json.Unmarshal([]byte(stdout.String()), &mistake); err != nil {
			t.Fatalf("%s: %v: %s%s", m.Name, err, stdout.String(), stderr.String())
		}
		if slices.ContainsFunc([]string{" is not set", "no such file", "is not in PATH"}, func(part string) bool { return strings.Contains(want, part) }) {
			continue // only here and now
		}
		count++
		if wanted := strings.TrimPrefix(want, dir+"/"); string(mistake.Text) != wanted {
			t.Errorf("%s: a prompt says\n%s\nand validate\n%s", m.Name, mistake.Text, wanted)
			continue
		}
		for _, args := range [][]string{{"env"}, {"exec", "--", "true"}, {"allow"}} {
			code, said := runInProcess(t, dir, args...)
			if first := firstError(said); code == 0 || first != want {
				t.Errorf("%s: %s (exit %d):\n%s\nand validate:\n%s", m.Name, args, code, first, want)
			}
		}
	}
	if count < 150 {
		t.Errorf("only %d mistakes", count)
	}
}

// firstError returns the first line that is no warning and no message of LocalPort's about something else.
func firstError(said string) string {
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "warning: ") && !strings.HasPrefix(line, " ") {
			return strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "localport: ")
		}
	}
	return ""
}

// isolateConfigCommands gives commands that run in the test's process a home of their own, and an environment with few variables.
func isolateConfigCommands(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	for name, dir := range map[string]string{"HOME": "", "XDG_STATE_HOME": "state", "XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config", "XDG_RUNTIME_DIR": "run"} {
		t.Setenv(name, filepath.Join(home, dir))
	}
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "LOCALPORT_") {
			t.Setenv(name, "") // so that it is restored
			_ = os.Unsetenv(name)
		}
	}
}

// runInProcess runs a command that starts no process, in dir, and returns its exit code and what it prints: messages first.
func runInProcess(t *testing.T, dir string, args ...string) (code int, text string) {
	t.Helper()
	code, stdout, stderr := runForResult(t, dir, args...)
	return code, stderr + stdout
}

// runForResult is runInProcess with results and messages apart.
func runForResult(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Chdir(".") // exec changes the directory: it is restored when the test ends
	var out, messages strings.Builder
	a := &app{out: output.NewWriter(&out), err: output.NewWriter(&messages)}
	code = parseAndRun(a, append([]string{"-C", dir}, args...))
	_, _ = a.out.Flush(), a.err.Flush()
	return code, out.String(), messages.String()
}

func writeConfig(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, project.ConfigName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
