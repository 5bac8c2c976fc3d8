package project

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// dotEnvNamePattern matches the name of a variable in .env. Shells allow no dot in a name, but other tools that read the file do.
var dotEnvNamePattern = LazyRegexp(`^[A-Za-z_][A-Za-z0-9_.]*$`)

var byteOrderMark = []byte("\xef\xbb\xbf")

// dotEnv is .env as read.
type dotEnv struct {
	path     string
	values   map[string]string
	errors   []Diagnostic
	warnings []Diagnostic
}

// parseDotEnv parses .env. Its diagnostics show no value, and no error text of godotenv, which would quote the file.
func parseDotEnv(path string, data []byte) dotEnv {
	d := dotEnv{path: path}
	data = bytes.TrimPrefix(data, byteOrderMark)
	if !utf8.Valid(data) {
		d.addError(lineNumber(data, invalidUTF8Offset(data)), "invalid UTF-8", "")
		return d
	}
	if at := bytes.IndexByte(data, 0); at >= 0 {
		d.addError(lineNumber(data, at), "must not contain a NUL byte", "")
		return d
	}
	data = emptyCommentedValues(data)
	values, err := godotenv.Parse(bytes.NewReader(data))
	d.values = values
	seen := map[string]bool{}
	for s := range readStatements(data) {
		switch {
		case s.isBroken && err != nil:
			d.addError(s.line, "expected NAME=value, or a closing quote is missing", s.maskedText())
		case s.hasInvalidName:
			d.addError(s.line, `invalid variable name before "="`, "")
		}
		d.warnUnsetExpansion(s, seen)
		maps.Copy(seen, s.names)
	}
	if err != nil && len(d.errors) == 0 {
		d.addError(1, "expected lines of NAME=value", "")
	}
	return d
}

// commentedValuePattern matches a line whose value is only a comment.
var commentedValuePattern = LazyRegexp(`^(\s*(?:export\s+)?[A-Za-z_][A-Za-z0-9_.]*\s*[=:])[ \t]+#.*`)

// emptyCommentedValues removes the comment of each NAME=   # comment: the value is empty, as docker compose reads it. godotenv takes the
// comment for the value.
func emptyCommentedValues(data []byte) []byte {
	if !bytes.Contains(data, []byte(" #")) && !bytes.Contains(data, []byte("\t#")) {
		return data
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for s := range readStatements(data) {
		if s.isBroken {
			continue
		}
		line := lines[s.line-1]
		if m := commentedValuePattern().FindSubmatch(bytes.TrimRight(line, "\r\n")); m != nil && bytes.Equal(s.text, ensureNewline(line)) {
			lines[s.line-1] = append(slices.Clone(m[1]), '\n')
		}
	}
	return bytes.Join(lines, nil)
}

// ensureNewline returns a line with the newline that the last one may lack.
func ensureNewline(line []byte) []byte {
	if bytes.HasSuffix(line, []byte("\n")) {
		return line
	}
	return append(slices.Clone(line), '\n')
}

func (d *dotEnv) addError(line int, message, source string) {
	d.errors = append(d.errors, Diagnostic{Path: d.path, Line: line, Col: 1, Message: message, Source: source})
}

// expansionPattern matches what godotenv replaces, outside single quotes, by an earlier value of the same file.
var expansionPattern = LazyRegexp(`(^|[^\\$])\$\{?([A-Z0-9_]+)`)

// warnUnsetExpansion warns of a $NAME that godotenv silently replaces by nothing: most often a dollar sign in a password.
func (d *dotEnv) warnUnsetExpansion(s statement, seen map[string]bool) {
	at := assignmentPattern().FindIndex(s.text)
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
	for _, m := range expansionPattern().FindAllSubmatch(value, -1) {
		if !seen[string(m[2])] {
			d.warnings = append(d.warnings, Diagnostic{
				Path: d.path, Line: s.line, Col: 1, Source: s.maskedText(),
				Message: "a $NAME that is not set above this line is replaced by nothing; use single quotes to keep the dollar sign",
			})
			return
		}
	}
}

func lineNumber(data []byte, offset int) int { return 1 + bytes.Count(data[:offset], []byte("\n")) }

// invalidUTF8Offset returns the offset of the first byte of data that is not UTF-8. There must be one.
func invalidUTF8Offset(data []byte) (offset int) {
	for {
		_, size := utf8.DecodeRune(data[offset:])
		if !utf8.Valid(data[offset : offset+size]) {
			return offset
		}
		offset += size
	}
}

// statement is one NAME=value of .env, which may span several lines; if several share a line, they are one statement.
type statement struct {
	line           int
	text           []byte
	names          map[string]bool
	hasInvalidName bool
	isBroken       bool // godotenv cannot parse it; parsing ends here
}

var assignmentPattern = LazyRegexp(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*[=:]`)

// maskedText returns the statement with its value masked.
func (s statement) maskedText() string {
	if m := assignmentPattern().FindSubmatch(s.text); m != nil {
		return string(m[1]) + "=" + mask
	}
	return ""
}

// maxStatementLines is the number of lines searched for the end of a value.
const maxStatementLines = 200

// readStatements yields the statements of data. godotenv reports no positions, so a statement is the fewest lines that it can parse.
func readStatements(data []byte) iter.Seq[statement] {
	lines := bytes.SplitAfter(data, []byte("\n"))
	return func(yield func(statement) bool) {
		for i := 0; i < len(lines); {
			s, n := readStatement(lines[i:])
			s.line = i + 1
			if !yield(s) || s.isBroken {
				return
			}
			i += n
		}
	}
}

// readStatement returns the first statement of lines, and the number of lines it spans. A blank line and a comment are
// statements without a name.
func readStatement(lines [][]byte) (statement, int) {
	var text []byte
	for n, line := range lines[:min(len(lines), maxStatementLines)] {
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
			s.hasInvalidName = s.hasInvalidName || !dotEnvNamePattern().MatchString(name)
		}
		return s, n + 1
	}
	return statement{text: lines[0], isBroken: true}, len(lines)
}
