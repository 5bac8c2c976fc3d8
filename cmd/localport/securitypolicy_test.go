package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every line of the table of threats in SECURITY.md names the tests that hold it.
func TestSecurityPolicy_NamesExistingTests(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	policy, err := os.ReadFile(filepath.Join(root, ".github", "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	existing := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+_[A-Za-z0-9_]+|Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range declaration.FindAllSubmatch(text, -1) {
			existing[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lines, names := 0, regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	for line := range strings.Lines(string(policy)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		isThreat := strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| Threat") && !strings.HasPrefix(line, "| ---") && !strings.HasPrefix(line, "| **")
		found := names.FindAllStringSubmatch(line, -1)
		if isThreat {
			lines++
			if len(cells) != 3 || len(names.FindAllString(cells[len(cells)-1], -1)) == 0 {
				t.Errorf("%q names no test", strings.TrimSpace(cells[0]))
			}
		}
		for _, name := range found {
			if !existing[name[1]] {
				t.Errorf("%s does not exist: %.100s", name[1], line)
			}
		}
	}
	if lines < 25 {
		t.Errorf("only %d threats were found: has the table another form?", lines)
	}
}
