package project

import (
	"bytes"
	"iter"
	"maps"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// dotEnvName is what a variable of .env may be called. A dot is no shell's name, but other tools read the file too.
var dotEnvName = lazily(`^[A-Za-z_][A-Za-z0-9_.]*$`)

var byteOrderMark = []byte("\xef\xbb\xbf")

// dotEnv is .env as read.
type dotEnv struct {
	path     string
	values   map[string]string
	errors   []Diagnostic
	warnings []Diagnostic
}

// parseDotEnv reads .env. Its diagnostics show no value and none of godotenv's own words, which quote the file.
func parseDotEnv(path string, data []byte) dotEnv {
	d := dotEnv{path: path}
	data = bytes.TrimPrefix(data, byteOrderMark)
	if !utf8.Valid(data) {
		d.fail(lineAt(data, notUTF8(data)), "invalid UTF-8", "")
		return d
	}
	if at := bytes.IndexByte(data, 0); at >= 0 {
		d.fail(lineAt(data, at), "must not contain a NUL byte", "")
		return d
	}
	values, err := godotenv.Parse(bytes.NewReader(data))
	d.values = values
	seen := map[string]bool{}
	for s := range statements(data) {
		switch {
		case s.broken && err != nil:
			d.fail(s.line, "expected NAME=value, or a closing quote is missing", s.shown())
		case s.badName:
			d.fail(s.line, `invalid variable name before "="`, "")
		}
		d.warnEmptied(s, seen)
		maps.Copy(seen, s.names)
	}
	if err != nil && len(d.errors) == 0 {
		d.fail(1, "expected lines of NAME=value", "")
	}
	return d
}

func (d *dotEnv) fail(line int, message, source string) {
	d.errors = append(d.errors, Diagnostic{Path: d.path, Line: line, Col: 1, Message: message, Source: source})
}

// expansion is what godotenv replaces, outside single quotes, by an earlier value of the same file.
var expansion = lazily(`(^|[^\\$])\$\{?([A-Z0-9_]+)`)

// warnEmptied warns of a $NAME that godotenv silently makes empty: most often a dollar in a password.
func (d *dotEnv) warnEmptied(s statement, seen map[string]bool) {
	at := assignment().FindIndex(s.text)
	if at == nil {
		return
	}
	value := bytes.TrimLeft(s.text[at[1]:], " \t")
	if bytes.HasPrefix(value, []byte("'")) {
		return
	}
	if !bytes.HasPrefix(value, []byte(`"`)) {
		value, _, _ = bytes.Cut(value, []byte(" #"))
	}
	for _, m := range expansion().FindAllSubmatch(value, -1) {
		if !seen[string(m[2])] {
			d.warnings = append(d.warnings, Diagnostic{
				Path: d.path, Line: s.line, Col: 1, Source: s.shown(),
				Message: "a $NAME that is not set above this line is replaced by nothing; use single quotes to keep the dollar sign",
			})
			return
		}
	}
}

func lineAt(data []byte, offset int) int { return 1 + bytes.Count(data[:offset], []byte("\n")) }

// notUTF8 is the offset of the first byte that is not UTF-8.
func notUTF8(data []byte) int {
	at := 0
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// statement is one NAME=value of .env, which may span lines; more than one where they share a line.
type statement struct {
	line    int
	text    []byte
	names   map[string]bool
	badName bool
	broken  bool // godotenv does not understand it; nothing after it is looked at
}

var assignment = lazily(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*[=:]`)

// shown is the statement without its value.
func (s statement) shown() string {
	if m := assignment().FindSubmatch(s.text); m != nil {
		return string(m[1]) + "=" + masked
	}
	return ""
}

// maxStatement is how many lines a value may span for us to find where it ends.
const maxStatement = 200

// statements are the statements of data. godotenv tells no positions, so each is the fewest lines that it takes.
func statements(data []byte) iter.Seq[statement] {
	lines := bytes.SplitAfter(data, []byte("\n"))
	return func(yield func(statement) bool) {
		for i := 0; i < len(lines); {
			s, n := nextStatement(lines[i:])
			s.line = i + 1
			if !yield(s) || s.broken {
				return
			}
			i += n
		}
	}
}

// nextStatement is the statement that lines begin with, and how many of them it takes. A blank line and a comment are
// statements without a name.
func nextStatement(lines [][]byte) (statement, int) {
	var text []byte
	for n, line := range lines[:min(len(lines), maxStatement)] {
		text = append(text, line...)
		if !bytes.HasSuffix(text, []byte("\n")) {
			text = append(text, '\n') // without it godotenv lets a last line pass that is not NAME=value
		}
		values, err := godotenv.Parse(bytes.NewReader(text))
		if err != nil {
			continue
		}
		s := statement{text: text, names: map[string]bool{}}
		for name := range values {
			s.names[name] = true
			s.badName = s.badName || !dotEnvName().MatchString(name)
		}
		return s, n + 1
	}
	return statement{text: lines[0], broken: true}, len(lines)
}
