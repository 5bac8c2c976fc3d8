package project

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/mistakes"
)

// What a message says to write, for example: write local_port = 8080 and remote_port = 80.
const (
	writtenPair   = `[\w.]+ = (?:"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}|[0-9]+|true|false)`
	mistakenValue = `(?:"[^"]*"|'[^']*'|\[[^\]]*\]|\{(?:[^{}]|\{[^}]*\})*\}|[^,}#]*)`
)

var (
	onePair      = regexp.MustCompile(writtenPair)
	writtenPairs = regexp.MustCompile(`write (` + writtenPair + `(?:(?:, | and )` + writtenPair + `)*)`)
	mistakenPair = regexp.MustCompile(`^[\w.-]+\s*[=:]\s*` + mistakenValue)
)

// A line that a message says to write is accepted by the parser.
func TestParse_AcceptsTheLinesThatItsMessagesSayToWrite(t *testing.T) {
	options := builtInOptions()
	options.Getenv = func(name string) (string, bool) { return "/home/you", name == "HOME" || name == "PATH" }
	diagnose := func(m mistakes.Mistake, config string) []Diagnostic {
		_, err := Parse(&Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(config), Local: []byte(m.Files[LocalName]), DotEnv: []byte(m.Files[EnvName])}, options)
		if invalid, ok := errors.AsType[*InvalidError](err); ok {
			return invalid.Diagnostics
		}
		return nil
	}
	count := 0
	for _, m := range mistakes.All() {
		for _, d := range diagnose(m, m.Config) {
			corrected, pairs := followAdvice(m.Config, d)
			if corrected == "" {
				continue
			}
			count++
			for _, left := range diagnose(m, corrected) {
				isOfLine := left.Path == d.Path && left.Line >= d.Line && left.Line < d.Line+pairs
				if isOfLine && !strings.Contains(left.Message, "unknown service") {
					t.Errorf("%s: %s\nis followed by %s\n%s", m.Name, d.Message, left.Message, corrected)
				}
			}
		}
	}
	if count < 60 {
		t.Errorf("only %d lines were written", count)
	}
}

// followAdvice replaces the key and value of a diagnostic by those that its message says to write, with all lines of its table for these keys. It
// returns the empty string if there are none, or only an example of the form.
func followAdvice(config string, d Diagnostic) (corrected string, pairs int) {
	match := writtenPairs.FindStringSubmatch(d.Message)
	lines := strings.Split(config, "\n")
	if match == nil || strings.Contains(match[1], "…") || strings.Contains(match[1], "key = value") || strings.Contains(match[1], `"program"`) || d.Path != "/p/"+ConfigName {
		return "", 0
	}
	line := lines[d.Line-1]
	from, old := findPair(line, d.Col)
	if from < 0 {
		return "", 0
	}
	written := onePair.FindAllString(match[1], -1)
	separator := ", "
	if strings.TrimSpace(line[:from]) == "" {
		separator = "\n"
		for _, pair := range written {
			key, _, _ := strings.Cut(pair, " =")
			blankKey(lines, d.Line-1, key)
		}
	}
	lines[d.Line-1] = line[:from] + strings.Join(written, separator) + line[from+len(old):]
	return strings.Join(lines, "\n"), len(written)
}

// findPair returns where the innermost key with a value begins that covers a column, and its text; -1 if there is none.
func findPair(line string, col int) (from int, pair string) {
	from = -1
	for at := range min(col, len(line)) {
		isInText := strings.Count(line[:at], `"`)%2 == 1
		if isInText || at > 0 && !strings.ContainsRune(" {,", rune(line[at-1])) {
			continue
		}
		if found := mistakenPair.FindString(line[at:]); found != "" && at+len(found) >= col {
			from, pair = at, found
		}
	}
	return from, pair
}

// blankKey empties the lines of a key in the table of a line.
func blankKey(lines []string, at int, key string) {
	for first := at; first >= 0 && !strings.HasPrefix(lines[first], "["); first-- {
		at = first
	}
	for ; at < len(lines) && !strings.HasPrefix(lines[at], "["); at++ {
		if strings.HasPrefix(lines[at], key+" =") {
			lines[at] = ""
		}
	}
}
