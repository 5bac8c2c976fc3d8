// Package converttest tests that what converters write is a valid config.
package converttest

import (
	"path/filepath"
	"testing"

	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
)

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
