package project

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// dotEnv is .env as read.
type dotEnv struct {
	path     string
	values   map[string]string
	lines    map[string]int // of the values
	errors   []Diagnostic
	warnings []Diagnostic
}

// parseDotEnv parses .env as docker compose v2 does (github.com/compose-spec/compose-go, package dotenv): quotes, escapes, values of several
// lines, "export", comments, and $NAME from the environment or from a line above. What compose would refuse, drop or read in a surprising way is
// an error or a warning with its line. Diagnostics show no value.
//
// One difference: a value that is only a comment is empty, as compose documents it; compose-go takes the comment for the value.
func parseDotEnv(path string, data []byte, lookup func(string) (string, bool)) dotEnv {
	d := dotEnv{path: path, values: map[string]string{}, lines: map[string]int{}}
	data = bytes.TrimPrefix(data, byteOrderMark)
	if !utf8.Valid(data) {
		d.errors = []Diagnostic{d.diagnostic(lineNumber(data, invalidUTF8Offset(data)), "invalid UTF-8", "")}
		return d
	}
	if at := bytes.IndexByte(data, 0); at >= 0 {
		d.errors = []Diagnostic{d.diagnostic(lineNumber(data, at), "must not contain a NUL byte", "")}
		return d
	}
	r := dotEnvReader{dotEnv: &d, text: string(data), line: 1, lookup: lookup}
	for r.skipToStatement() && r.readStatement() {
	}
	return d
}

func (d *dotEnv) diagnostic(line int, message, name string) Diagnostic {
	source := ""
	if name != "" {
		source = name + "=" + mask
	}
	return Diagnostic{Path: d.path, Line: line, Col: 1, Message: message, Source: source}
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

// dotEnvReader reads the statements of .env in turn.
type dotEnvReader struct {
	*dotEnv
	text     string // what has not been read
	line     int    // of text's first byte
	lookup   func(string) (string, bool)
	expanded int // bytes that expansions have produced so far
}

// dotEnvStatement is one NAME=value.
type dotEnvStatement struct {
	line int
	name string // empty if it is not a valid name
}

func (r *dotEnvReader) addError(s dotEnvStatement, message string) {
	r.errors = append(r.errors, r.diagnostic(s.line, message, s.name))
}

func (r *dotEnvReader) addWarning(s dotEnvStatement, message string) {
	r.warnings = append(r.warnings, r.diagnostic(s.line, message, s.name))
}

// advance skips n bytes.
func (r *dotEnvReader) advance(n int) {
	r.line += strings.Count(r.text[:n], "\n")
	r.text = r.text[n:]
}

// currentLine returns the rest of the line, without its newline.
func (r *dotEnvReader) currentLine() string {
	line, _, _ := strings.Cut(r.text, "\n")
	return line
}

// skipToStatement skips space and comments. It returns false at the end of the file.
func (r *dotEnvReader) skipToStatement() bool {
	for {
		r.advance(len(r.text) - len(strings.TrimLeftFunc(r.text, unicode.IsSpace)))
		if !strings.HasPrefix(r.text, "#") {
			return r.text != ""
		}
		r.advance(len(r.currentLine()))
	}
}

const (
	messageNotAssignment = "expected NAME=value, or a closing quote is missing"
	messageInvalidName   = `invalid variable name before "="`
)

// exportPattern matches the keyword that makes the file a shell script too.
var exportPattern = LazyRegexp(`^export[ \t\v\f\r]+`)

// readStatement reads the statement at the beginning of the text. It returns false if the rest of the file cannot be read.
func (r *dotEnvReader) readStatement() bool {
	r.advance(len(exportPattern().FindString(r.text)))
	s := dotEnvStatement{line: r.line}
	line := r.currentLine()
	at := strings.IndexAny(line, "=:") // compose accepts "NAME: value" too
	if at < 0 {
		r.checkBareName(s, line)
		r.advance(len(line))
		return true
	}
	name := strings.TrimRightFunc(line[:at], unicode.IsSpace)
	r.advance(at + 1)
	value, isClosed := r.readValue()
	if isDotEnvName(name) {
		s.name = name
	}
	switch {
	case !isClosed:
		r.addError(s, messageNotAssignment)
	case s.name == "":
		r.addError(s, messageInvalidName)
	case name[0] >= '0' && name[0] <= '9':
		r.addWarning(s, "a name that begins with a digit is ignored, as docker compose ignores it")
	default:
		if strings.Contains(value.text, "\t#") && value.quote == 0 {
			r.addWarning(s, `"#" begins a comment only after a space; after a tab it is part of the value`)
		}
		r.values[name], r.lines[name] = r.expand(s, value), s.line
	}
	return isClosed
}

// checkBareName checks a line without "=". compose takes the value from the environment, which counts more than .env anyway.
func (r *dotEnvReader) checkBareName(s dotEnvStatement, line string) {
	name := strings.TrimSpace(line)
	if !isDotEnvName(name) {
		r.addError(s, messageNotAssignment)
		return
	}
	if _, isSet := r.lookup(name); !isSet {
		r.addWarning(s, `a name without "=" sets nothing; write NAME=value`) // the line may be part of a secret, so it is not shown
	}
}

// isDotEnvName reports whether compose accepts a name. Shells accept fewer characters, but other programs that read the file do not mind.
func isDotEnvName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsNumber(c) && !strings.ContainsRune("_.-[]", c)
	})
}

// dotEnvValue is a value before expansion.
type dotEnvValue struct {
	text  string
	quote byte // 0: none
}

// readValue reads what follows "=". It returns false if a quote is not closed.
func (r *dotEnvReader) readValue() (dotEnvValue, bool) {
	isBlank := func(c rune) bool { return strings.ContainsRune("\t\v\f\r \u0085\u00a0", c) }
	blanks := len(r.text) - len(strings.TrimLeftFunc(r.text, isBlank))
	r.advance(blanks)
	if strings.HasPrefix(r.text, `"`) || strings.HasPrefix(r.text, "'") {
		value := dotEnvValue{quote: r.text[0]}
		text, length := cutQuoted(r.text)
		value.text = text
		r.advance(length)
		return value, length > 0
	}
	text := r.currentLine()
	r.advance(len(text))
	if blanks > 0 && strings.HasPrefix(text, "#") {
		return dotEnvValue{}, true
	}
	text, _, _ = strings.Cut(text, " #")
	return dotEnvValue{text: strings.TrimRightFunc(text, unicode.IsSpace)}, true
}

// cutQuoted returns the value of the quoted string at the beginning of text, and its length with the quotes; 0 if it is not closed. A backslash
// stays unless it precedes the quote.
func cutQuoted(text string) (value string, length int) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == text[0]:
			return b.String(), i + 1
		case text[i] == '\\' && i+1 < len(text):
			i++
			if text[i] != text[0] {
				b.WriteByte('\\')
			}
		}
		b.WriteByte(text[i])
	}
	return "", 0
}
