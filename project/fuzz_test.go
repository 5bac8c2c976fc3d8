package project

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder/printable"
)

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*.txtar", "testdata/invalid/*.txtar"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			files := parseArchive(readText(f, path))
			f.Add(files[ConfigName], files[LocalName], files[EnvName])
		}
	}
	f.Add("a = [[[1, {b = [\"x\"]}]]]\n[[x]]\n[[x.y]]\nz.z = 1\n", "x = 1\r\n", "A=${B}\r\n'\n")
	f.Fuzz(func(t *testing.T, config, local, dotEnv string) {
		files := &Files{Root: "/nowhere", Path: "/nowhere/" + ConfigName, Config: []byte(config), Local: []byte(local), DotEnv: []byte(dotEnv)}
		var err error
		if files.ReferencedFiles, err = readReferencedFiles(files); err != nil {
			t.Skip(err)
		}
		p, err := Parse(files, Options{
			Getenv: lookupIn(map[string]string{"HOME": "/home/x"}), Checks: testChecks, Technologies: slices.Concat(BuiltIn, testTechnologies),
		})
		if err == nil {
			checkProject(t, p)
			return
		}
		invalid, ok := errors.AsType[*InvalidError](err)
		if !ok || len(invalid.Diagnostics) == 0 {
			t.Fatalf("%v", err)
		}
		for _, d := range invalid.Diagnostics {
			if d.Path == "" || d.Line < 1 || d.Col < 1 || d.Message == "" || printable.EscapeLine(d.Message) != d.Message || printable.EscapeLine(d.Source) != d.Source {
				t.Fatalf("%+v", d)
			}
			checkLine(t, d, map[string]string{files.Path: config, "/nowhere/" + LocalName: local, "/nowhere/" + EnvName: dotEnv})
		}
	})
}

// checkLine checks that a diagnostic points into its file.
func checkLine(t *testing.T, d Diagnostic, files map[string]string) {
	text, ok := files[d.Path]
	if !ok || d.Line > strings.Count(text, "\n")+1 {
		t.Fatalf("%+v points nowhere", d)
	}
}

func checkProject(t *testing.T, p *Project) {
	for _, s := range p.Services {
		if s.LocalPort < 1 || s.LocalPort > 65535 || s.Technology == "" || s.ConnectTimeout <= 0 {
			t.Fatalf("%+v", s)
		}
	}
}
