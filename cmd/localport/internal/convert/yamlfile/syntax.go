package yamlfile

import (
	"fmt"
	"strings"
)

// FormatError says what is wrong with a file that is not YAML, or has another form than is expected, and what to write.
type FormatError struct {
	Line   int // 0: unknown
	Reason string
	Advice string
}

func (e *FormatError) Error() string { return e.Reason }

// findMistake returns the first mistake in a file that the parser has refused. The parser's own words are about its states, and its lines are often
// those of what stands around the mistake.
func findMistake(text string) *FormatError {
	s := &scanner{lines: strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), anchors: map[string]bool{}}
	for s.line < len(s.lines) {
		if mistake := s.scanLine(); mistake != nil {
			return mistake
		}
	}
	return nil
}

// scanner reads the block structure of a file line by line.
type scanner struct {
	lines   []string
	line    int // index of the next one
	levels  []level
	anchors map[string]bool
	// expectsChild: the last line is a key without a value, or "-" alone: a deeper level may follow.
	expectsChild bool
	// text is the line of a text below such a key; nil: there is none. If keys follow it, it lacks its colon.
	text *textLine
}

type textLine struct {
	line, indent int
	content      string
}

// level is the indentation of the keys of a mapping, or of the dashes of a list.
type level struct {
	indent int
	isList bool
}

func (s *scanner) mistake(line int, advice, format string, args ...any) *FormatError {
	return &FormatError{Line: line + 1, Reason: fmt.Sprintf(format, args...), Advice: advice}
}

// scanLine reads a line, and those on which its value goes on.
func (s *scanner) scanLine() *FormatError {
	line := s.line
	s.line++
	content := strings.TrimLeft(s.lines[line], " ")
	indent := len(s.lines[line]) - len(content)
	trimmed := strings.TrimSpace(content)
	switch {
	case trimmed == "" || trimmed[0] == '#':
		return nil
	case content[0] == '\t':
		return s.mistake(line, "replace each tab by spaces", "a tab in the indentation: YAML allows only spaces there")
	case indent == 0 && (strings.HasPrefix(trimmed, "---") || trimmed == "..." || trimmed[0] == '%'):
		s.levels, s.expectsChild = nil, true
		return nil
	}
	return s.scanContent(line, indent, strings.TrimRight(content, " \t"))
}

// scanContent reads what begins at a column: a list item, or a key with its value.
func (s *scanner) scanContent(line, indent int, content string) *FormatError {
	isItem := content == "-" || strings.HasPrefix(content, "- ")
	key, value, isKey := cutKey(content)
	if !isItem && !isKey && s.isContinuation(indent) {
		if s.expectsChild {
			s.text, s.expectsChild = &textLine{line, indent, content}, false
		}
		return nil
	}
	if text := s.text; text != nil && indent >= text.indent {
		return s.missingColon(text.line, text.content)
	}
	s.text = nil
	if mistake := s.enter(line, indent, isItem, isKey); mistake != nil {
		return mistake
	}
	switch {
	case isItem:
		s.expectsChild = true
		item := strings.TrimLeft(content[1:], " ")
		if item == "" || item[0] == '#' {
			return nil
		}
		if _, _, isKey := cutKey(item); isKey || strings.HasPrefix(item, "- ") {
			return s.scanContent(line, indent+len(content)-len(item), item)
		}
		return s.scanValue(line, indent, item)
	case isKey:
		return s.scanValue(line, indent, value)
	case strings.ContainsAny(content[:1], `"'[{`):
		return s.scanValue(line, indent, content)
	}
	return s.missingColon(line, key)
}

// isContinuation reports whether a line without a key is the text of a value, or belongs to that above it.
func (s *scanner) isContinuation(indent int) bool {
	return len(s.levels) > 0 && indent > s.levels[len(s.levels)-1].indent
}

// enter finds the level of a line.
func (s *scanner) enter(line, indent int, isList, isKey bool) *FormatError {
	before := len(s.levels)
	for len(s.levels) > 0 && s.levels[len(s.levels)-1].indent > indent {
		s.levels = s.levels[:len(s.levels)-1]
	}
	top := level{indent: -1}
	if len(s.levels) > 0 {
		top = s.levels[len(s.levels)-1]
	}
	switch {
	case top.indent == indent && top.isList == isList:
		return nil
	case top.indent == indent && !isList && len(s.levels) > 1 && s.levels[len(s.levels)-2] == level{indent, false}:
		s.levels = s.levels[:len(s.levels)-1] // after a list that stands directly below its key
		return nil
	case top.indent == indent && isList && !s.expectsChild:
		return s.mistake(line, `remove the "-", or indent the list below its key`, `a list item ("- …") among keys`)
	case top.indent == indent && !isList:
		return s.mistake(line, `write "- " before it, or indent it like the keys that it belongs to`, `a line without "-" among list items`)
	case len(s.levels) < before:
		return s.mistake(line, "indent it like the lines that it belongs to", "indented by %s, which matches the indentation of no line above", countSpaces(indent))
	case !s.expectsChild && len(s.levels) > 0 && isKey:
		return s.mistake(line, "indent both by the same number of spaces, or remove the value above", "indented further than the line above, which has a value already")
	}
	s.levels = append(s.levels, level{indent, isList})
	return nil
}

func countSpaces(n int) string {
	if n == 1 {
		return "1 space"
	}
	return fmt.Sprintf("%d spaces", n)
}

// cutKey splits "key: value" and "key:".
func cutKey(content string) (key, value string, isKey bool) {
	start := 0
	if content != "" && (content[0] == '"' || content[0] == '\'') {
		end := strings.IndexByte(content[1:], content[0])
		if end < 0 {
			return content, "", false
		}
		start = end + 2
		if !strings.HasPrefix(content[start:], ":") {
			return content, "", false
		}
	}
	plain := content[:start] + cutComment(content[start:]) // "#" in a quoted key begins no comment
	switch at := strings.Index(plain[start:], ": "); {
	case strings.ContainsAny(plain[:min(1, len(plain))], "[{"):
	case at >= 0:
		return plain[:start+at], strings.TrimSpace(content[start+at+1:]), true
	case strings.HasSuffix(plain, ":"):
		return plain[:len(plain)-1], "", true
	}
	return plain, "", false
}

// cutComment removes a comment after a plain text.
func cutComment(text string) string {
	if at := strings.Index(text, " #"); at >= 0 {
		text = text[:at]
	}
	return strings.TrimSpace(text)
}

func (s *scanner) missingColon(line int, word string) *FormatError {
	first, _, _ := strings.Cut(word, " ")
	if name, _, hasColon := strings.Cut(first, ":"); hasColon && name != "" {
		return s.mistake(line, fmt.Sprintf(`write "%s: …"`, name), `a space is missing after the colon`)
	}
	return s.mistake(line, fmt.Sprintf(`write "%s: …"`, first), `a colon is missing after a key`)
}
