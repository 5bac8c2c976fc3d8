package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
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
		dir := t.TempDir()
		writeConfig(t, dir, m.Config)
		_, said := runInProcess(t, dir, "config", "validate")
		said = strings.ReplaceAll(said, dir+"/", "")
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
