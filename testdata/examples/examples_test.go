package examples

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// TestExamples_AreValid parses every config below this directory, without any variable.
func TestExamples_AreValid(t *testing.T) {
	technologies := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != project.ConfigName {
			return err
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		files, err := project.ReadFiles(absolute)
		if err != nil {
			return err
		}
		parsed, err := project.Parse(files, project.Options{
			Getenv: func(string) (string, bool) { return "", false }, Checks: builtin.Types(), Technologies: supervisor.Technologies(),
			PickAutoPort: func(service string) int { return project.PickAutoPort(path, service, nil) },
		})
		if err != nil {
			t.Errorf("%v", err)
			return nil
		}
		if !strings.HasPrefix(string(files.Config), draft.SchemaLine+"\n# ") {
			t.Errorf("%s does not begin with the schema and a comment", path)
		}
		if len(parsed.Warnings)+len(parsed.Advice) > 0 {
			t.Errorf("%s: warnings: %v %v", path, parsed.Warnings, parsed.Advice)
		}
		for _, svc := range parsed.Services {
			technologies[svc.Technology] = true
			if _, err := builtin.NewCheck(svc.HealthCheck); err != nil {
				t.Errorf("%s: %s: %v", path, svc.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, technology := range supervisor.Technologies() {
		if !technologies[technology.Name] {
			t.Errorf("no example has the technology %s", technology.Name)
		}
	}
}

func TestExamples_AreListedWithTheirFiles(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && !slices.Contains(Names(), entry.Name()) {
			t.Errorf("%s is not listed", entry.Name())
		}
	}
	for _, example := range All {
		if text, ok := Config(example.Name); !ok || text == "" {
			t.Errorf("%s has no config", example.Name)
		}
		for _, file := range example.Files {
			if _, err := os.Stat(filepath.Join(example.Name, file)); err != nil {
				t.Error(err)
			}
		}
	}
	if _, ok := Config("../examples/ci"); ok {
		t.Error("a path is a name")
	}
}
