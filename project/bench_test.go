package project

import (
	"path/filepath"
	"testing"
)

// Every cd into a project reads and parses it, so this is part of what the user waits for.
func BenchmarkReadAndParse(b *testing.B) {
	root := physicalTempDir(b)
	for name, text := range parseArchive(readText(b, "testdata/valid/full.txtar")) {
		write(b, filepath.Join(root, name), text)
	}
	for b.Loop() {
		f, err := ReadFiles(filepath.Join(root, ConfigName))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Parse(f, Options{Technologies: BuiltIn}); err != nil {
			b.Fatal(err)
		}
	}
}
