package project

import (
	"strconv"
	"strings"
)

// escapePattern matches the escape sequences of a value in double quotes.
var escapePattern = LazyRegexp(`\\(?:[abcfnrtv$"\\]|0\d{0,3})`)

// expandEscapes replaces the escape sequences of a value in double quotes. An escaped dollar sign becomes "$$", as expand expects it.
func expandEscapes(text string) string {
	return escapePattern().ReplaceAllStringFunc(text, func(escape string) string {
		if escape == `\$` {
			return "$$"
		}
		if digits, isOctal := strings.CutPrefix(escape, `\0`); isOctal {
			escape = `\` + digits
		}
		c, _, _, err := strconv.UnquoteChar(escape, '"')
		if err != nil {
			return escape
		}
		return string(c)
	})
}

// maxExpandedSize limits what all expansions of a file may produce: each line could double the one above it.
const maxExpandedSize = maxFileSize

// expand replaces each $NAME and ${NAME} of a value by the environment's value or that of a line above, as compose does. In single quotes a dollar
// sign is literal.
func (r *dotEnvReader) expand(s dotEnvStatement, value dotEnvValue) string {
	if value.quote == '"' {
		value.text = expandEscapes(value.text)
	}
	if value.quote == '\'' || !strings.Contains(value.text, "$") {
		return value.text
	}
	if r.expanded >= maxExpandedSize {
		return "" // reported already
	}
	e := dotEnvExpansion{lookup: r.lookupAbove, room: maxExpandedSize - r.expanded}
	text := e.expand(value.text, 0)
	r.expanded = maxExpandedSize - e.room
	switch {
	case e.room < 0:
		r.addError(s, "the values become too large when each $NAME is replaced by its value")
	case e.isInvalid:
		r.addError(s, `invalid "${…}"; use single quotes to keep the dollar sign`)
	case e.isMissing:
		r.addError(s, "a variable that this value requires (\":?\") is not set")
	case e.hasUnset:
		r.addWarning(s, "a $NAME that is set neither in the environment nor above this line is replaced by nothing; use single quotes to keep the dollar sign")
	}
	return text
}

func (r *dotEnvReader) lookupAbove(name string) (string, bool) {
	if value, isSet := r.lookup(name); isSet {
		return value, true
	}
	value, isSet := r.values[name]
	return value, isSet
}

// dotEnvExpansion is the expansion of one value.
type dotEnvExpansion struct {
	lookup    func(string) (string, bool)
	room      int // bytes that it may still produce
	isInvalid bool
	isMissing bool // a required variable is not set
	hasUnset  bool // a variable without a default is not set
}

var (
	dotEnvReferencePattern = LazyRegexp(`(?s)\$(?:(\$)|([A-Za-z_][A-Za-z0-9_]*)|\{)`)
	dotEnvBracedPattern    = LazyRegexp(`(?s)^([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+?])(.*))?$`)
)

func (e *dotEnvExpansion) expand(text string, depth int) string {
	var b strings.Builder
	for {
		m := dotEnvReferencePattern().FindStringSubmatchIndex(text)
		if m == nil {
			break
		}
		b.WriteString(text[:m[0]])
		rest := text[m[1]:]
		replacement := "$"
		switch {
		case m[4] >= 0:
			replacement = e.value(text[m[4]:m[5]])
		case m[2] < 0:
			end := closingBrace(rest)
			if end < 0 || depth > maxNesting {
				e.isInvalid = true
				return ""
			}
			replacement = e.braced(rest[:end], depth)
			rest = rest[end+1:]
		}
		if e.room -= m[0] + len(replacement); e.room < 0 {
			return ""
		}
		b.WriteString(replacement)
		text = rest
	}
	b.WriteString(text)
	e.room -= len(text)
	return b.String()
}

// closingBrace returns the index of the brace that closes one that precedes text; -1 if there is none.
func closingBrace(text string) int {
	open := 1
	for i := range len(text) {
		switch text[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}

// value returns the value of a variable without a default.
func (e *dotEnvExpansion) value(name string) string {
	value, isSet := e.lookup(name)
	e.hasUnset = e.hasUnset || !isSet
	return value
}

// braced expands what is between the braces of ${…}. With a colon, an empty value counts as none.
func (e *dotEnvExpansion) braced(text string, depth int) string {
	m := dotEnvBracedPattern().FindStringSubmatch(text)
	if m == nil {
		e.isInvalid = true
		return ""
	}
	name, operator, word := m[1], m[2], m[3]
	if operator == "" {
		return e.value(name)
	}
	value, isSet := e.lookup(name)
	if strings.HasPrefix(operator, ":") {
		isSet = value != ""
	}
	switch operator[len(operator)-1] {
	case '-':
		if isSet {
			return value
		}
		return e.expand(word, depth+1)
	case '+':
		if isSet {
			return e.expand(word, depth+1)
		}
		return value
	}
	e.isMissing = e.isMissing || !isSet
	return value
}
