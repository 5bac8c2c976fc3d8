// Package converttest tests converters: that what they write is a valid config, and the text that is expected.
package converttest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
)

var update = flag.Bool("update", false, "write the golden files")

// Parse parses a config as "localport config validate" does, in the given environment, and fails the test if it is invalid.
func Parse(t testing.TB, text string, env map[string]string) *project.Project {
	t.Helper()
	parsed, err := TryParse(text, env)
	if err != nil {
		t.Fatalf("the config is invalid: %v\n%s", err, text)
	}
	return parsed
}

// TryParse is Parse for a config that may be invalid.
func TryParse(text string, env map[string]string) (*project.Project, error) {
	const root = "/converted"
	files := &project.Files{Root: root, Path: filepath.Join(root, project.ConfigName), Config: []byte(text)}
	parsed, err := project.Parse(files, project.Options{
		Getenv: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
		Checks: builtin.Types(), Technologies: supervisor.Technologies(),
		PickAutoPort: func(service string) int {
			return project.PickAutoPort(root, service, func(int) bool { return false })
		},
	})
	if err != nil {
		return nil, err
	}
	for _, svc := range parsed.Services {
		if _, err := builtin.NewCheck(svc.HealthCheck); err != nil {
			return nil, err
		}
	}
	return parsed, nil
}

// Golden compares text with a golden file, or writes it with -update.
func Golden(t testing.TB, path, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (write it with: go test -update); got:\n%s", path, text)
	}
}

// Findings joins lines as they are printed.
func Findings[T interface{ String() string }](findings []T) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}
