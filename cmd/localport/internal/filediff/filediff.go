// Package filediff compares a project's files with what was allowed of them before, for the person who allows them.
package filediff

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/localport-sh/localport/project"
)

// LineKind is what a line of a comparison says.
type LineKind int

// The kinds of line.
const (
	Context LineKind = iota // the same before and after
	Title                   // the name of a file
	Section                 // where in the file the next lines are
	Added
	Removed
	Note // a sentence
)

// Line is a line of a comparison.
type Line struct {
	Kind LineKind
	Text string
}

// Compare returns the differences between two states of a project's files, as unified diffs without secrets; nothing if there are none. The names of
// files that only one of them has say so.
func Compare(before, after []project.MaskedFile) []Line {
	var lines []Line
	for _, file := range after {
		was, existed := find(before, file.Name)
		lines = append(lines, compareFile(was, file, existed)...)
	}
	for _, file := range before {
		if _, exists := find(after, file.Name); !exists {
			lines = append(lines, Line{Note, file.Name + " is not used any more, or gone"})
		}
	}
	return lines
}

func find(files []project.MaskedFile, name string) (project.MaskedFile, bool) {
	at := slices.IndexFunc(files, func(f project.MaskedFile) bool { return f.Name == name })
	if at < 0 {
		return project.MaskedFile{}, false
	}
	return files[at], true
}

// emptyDigest is the digest of a file without contents. The text of any other file is empty only if it is not shown.
var emptyDigest = fmt.Sprintf("%x", sha256.Sum256(nil))

func compareFile(before, after project.MaskedFile, existed bool) []Line {
	switch {
	case before.Digest == after.Digest:
		return nil
	case before.Text != after.Text && (!existed || before.Text != "" || before.Digest == emptyDigest):
		return diffLines(before, after, existed)
	case existed && after.Text != "" && before.Text != "":
		return []Line{{Note, after.Name + ": a secret changed, which is not shown"}}
	case existed:
		return []Line{{Note, after.Name + " changed; its contents are not shown"}}
	}
	return []Line{{Note, after.Name + " is new; its contents are not shown"}}
}

// diffLines returns the unified diff of a file's masked texts.
func diffLines(before, after project.MaskedFile, existed bool) []Line {
	was := before.Name
	if !existed {
		was = "/dev/null"
	}
	text := string(diff.Diff(was, []byte(before.Text), after.Name, []byte(after.Text)))
	_, text, _ = strings.Cut(text, "\n") // the command line of diff
	var lines []Line
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		lines = append(lines, Line{kindOf(line, i), strings.TrimSuffix(line, "\r")})
	}
	return lines
}

func kindOf(line string, number int) LineKind {
	switch {
	case number < 2:
		return Title
	case strings.HasPrefix(line, "@@"):
		return Section
	case strings.HasPrefix(line, "+"):
		return Added
	case strings.HasPrefix(line, "-"):
		return Removed
	case strings.HasPrefix(line, `\`):
		return Note
	}
	return Context
}

// Limit returns at most limit lines. If it leaves lines out, the last one says how many.
func Limit(lines []Line, limit int) []Line {
	if len(lines) <= limit {
		return lines
	}
	rest := len(lines) - limit + 1
	return append(slices.Clip(lines[:limit-1]), Line{Note, fmt.Sprintf("%d more lines changed", rest)})
}

// HidesSecret reports whether a line that is new has a secret in it, which is not shown.
func (l Line) HidesSecret() bool { return l.Kind == Added && strings.Contains(l.Text, "***") }
