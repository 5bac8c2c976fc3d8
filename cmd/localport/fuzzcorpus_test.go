package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each fuzz target has inputs in testdata/fuzz, which "go test" tries: what "just fuzz" has found.
func TestFuzz_EveryTargetHasACorpus(t *testing.T) {
	t.Parallel()
	declaration := regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]+)\(f \*testing\.F\)`)
	targets := 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range declaration.FindAllSubmatch(text, -1) {
			targets++
			dir := filepath.Join(filepath.Dir(path), "testdata", "fuzz", string(match[1]))
			if inputs, err := os.ReadDir(dir); err != nil || len(inputs) < 10 {
				t.Errorf("%d inputs for %s (%v): run \"just fuzz 2m %s\", and copy small ones of $(go env GOCACHE)/fuzz to %s", len(inputs), match[1], err, match[1], dir)
			}
		}
		return err
	})
	if err != nil || targets < 8 {
		t.Errorf("%d targets, %v", targets, err)
	}
}
