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
	checkTestTable(t, filepath.Join(repositoryRoot, ".github", "SECURITY.md"), "| Threat |", 3, 25)
}

// Every line of the table of verdicts in DESIGN.md says what the verdict rests on and what revisits it, and names the tests that hold that.
func TestVerdicts_NameExistingTests(t *testing.T) {
	t.Parallel()
	checkTestTable(t, filepath.Join(repositoryRoot, ".github", "DESIGN.md"), "| Verdict |", 4, 80)
}

var repositoryRoot = filepath.Join("..", "..")

// checkTestTable checks that the tests exist which a document names, and its table whose heading begins with a text: that has this number of columns,
// at least minLines lines and no empty cell, and the last cell of each line names tests. A line that begins with bold text is a heading.
func checkTestTable(t *testing.T, path, heading string, columns, minLines int) {
	t.Helper()
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	existing, names := listTests(t), regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	lines, isInTable := 0, false
	for line := range strings.Lines(string(document)) {
		for _, name := range names.FindAllStringSubmatch(line, -1) {
			if !existing[name[1]] {
				t.Errorf("%s does not exist: %.100s", name[1], line)
			}
		}
		isInTable = strings.HasPrefix(line, heading) || isInTable && strings.HasPrefix(line, "|")
		if !isInTable || strings.HasPrefix(line, heading) || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| **") {
			continue
		}
		lines++
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "|"), "|"), " | ")
		if len(cells) != columns || !names.MatchString(cells[len(cells)-1]) {
			t.Errorf("%q has %d cells instead of %d, or names no test", strings.TrimSpace(cells[0]), len(cells), columns)
		}
		for _, cell := range cells {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("%q has an empty cell", strings.TrimSpace(cells[0]))
			}
		}
	}
	if lines < minLines {
		t.Errorf("only %d lines were found: has the table another form?", lines)
	}
}

// listTests returns the names of all tests of the repository.
func listTests(t *testing.T) map[string]bool {
	t.Helper()
	existing := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+_[A-Za-z0-9_]+|Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
	err := filepath.WalkDir(repositoryRoot, func(path string, entry fs.DirEntry, err error) error {
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
	return existing
}
