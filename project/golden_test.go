package project

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "replace the wanted results in testdata by the actual ones")

// A case in testdata is an archive: the project's files, "environment" with NAME=value lines, "types" to use the types
// below, and "want".

// Types of health check and a technology as other packages define them, with keys in common and keys of their own.
var (
	testChecks = []CheckType{
		{Name: "http", Keys: []Key{
			{Name: "path", Default: "/", Validate: func(value any) error {
				if !strings.HasPrefix(value.(string), "/") {
					return errors.New(`must begin with "/"`)
				}
				return nil
			}},
			{Name: "expected_status", Type: TypeNumberList},
			{Name: "headers", Type: TypeTable, Secret: true, PublicEntries: []string{"Accept"}},
			{Name: "tls_verify", Type: TypeBool, Default: true},
		}},
		{Name: "postgres", Keys: []Key{
			{Name: "user", Default: "postgres"},
			{Name: "password", Secret: true},
			{Name: "database"},
			{Name: "ca_file", Type: TypeFile},
		}},
		{Name: "redis", Keys: []Key{
			{Name: "password", Secret: true},
			{Name: "database", Type: TypeNumber},
			{Name: "key", Secret: true},
		}},
		{Name: "command", Keys: []Key{{Name: "command", Type: TypeTextList, Required: true, Example: `, for example ["check", "{addr}"]`}}},
	}
	testTechnologies = []TechnologyType{{Name: "wormhole", HasRemotePort: true, Keys: []Key{
		{Name: "host", Required: true},
		{Name: "galaxy", Default: "milky way"},
		{Name: "incantation", Secret: true},
	}}}
)

func TestParse_ReportsEveryErrorWithItsPosition(t *testing.T) {
	runCases(t, "testdata/invalid/*.txtar", func(t *testing.T, f *Files, o Options) string {
		p, err := Parse(f, o)
		invalid, ok := errors.AsType[*InvalidError](err)
		if !ok {
			t.Fatalf("got %+v, %v; want an *Invalid", p, err)
		}
		return invalid.Error()
	})
}

func TestParse_FillsInDefaults(t *testing.T) {
	runCases(t, "testdata/valid/*.txtar", func(t *testing.T, f *Files, o Options) string {
		p, err := Parse(f, o)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	})
}

func runCases(t *testing.T, pattern string, run func(*testing.T, *Files, Options) string) {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, %v", pattern, paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { runCase(t, path, run) })
	}
}

func runCase(t *testing.T, path string, run func(*testing.T, *Files, Options) string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	given, want, _ := strings.Cut(string(data), "-- want --\n")
	root, env := t.TempDir(), map[string]string{}
	o := Options{Getenv: lookupIn(env), Technologies: BuiltIn, PickAutoPort: func(string) int { return 12345 }}
	for name, text := range parseArchive(given) {
		if name == "types" {
			o.Checks, o.Technologies = testChecks, slices.Concat(BuiltIn, testTechnologies)
			continue
		}
		if name != "environment" {
			write(t, filepath.Join(root, name), text)
			continue
		}
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			env[name] = value
		}
	}
	f, err := ReadFiles(filepath.Join(root, ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, f, o)
	got = strings.ReplaceAll(got, f.Root, "ROOT") + "\n"
	if home, err := homeDir(); err == nil {
		got = strings.ReplaceAll(got, `"`+home+"/", `"HOME/`)
	}
	if *update {
		if err := os.WriteFile(path, []byte(given+"-- want --\n"+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// parseArchive returns the files of a case by name; each begins with a line "-- NAME --".
func parseArchive(text string) map[string]string {
	files, name := map[string]string{}, ""
	for line := range strings.Lines(text) {
		header, isHeader := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- ")
		switch {
		case isHeader && strings.HasSuffix(line, " --\n"):
			name = header
			files[name] = ""
		case name != "":
			files[name] += line
		}
	}
	return files
}

func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readText(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
