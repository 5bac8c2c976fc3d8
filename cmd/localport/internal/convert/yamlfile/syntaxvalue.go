package yamlfile

import (
	"fmt"
	"strings"

	"github.com/localport-sh/localport/project"
)

var (
	blockHeaderPattern = project.LazyRegexp(`^[|>][0-9+-]*(?:\s+#.*)?$`)
	anchorPattern      = project.LazyRegexp(`^[&!](\S*)\s*`)
	aliasPattern       = project.LazyRegexp(`^\*([A-Za-z0-9_-]+)\s*(?:#.*)?$`)
)

// scanValue reads a value that begins on a line, below a key or a dash at an indentation.
func (s *scanner) scanValue(line, indent int, value string) *FormatError {
	for match := anchorPattern().FindStringSubmatch(value); match != nil && match[1] != ""; match = anchorPattern().FindStringSubmatch(value) {
		if value[0] == '&' {
			s.anchors[match[1]] = true
		}
		value = value[len(match[0]):]
	}
	s.expectsChild = value == "" || value[0] == '#'
	if s.expectsChild {
		return nil
	}
	switch value[0] {
	case '|', '>':
		return s.scanBlockText(line, indent, value)
	case '"', '\'', '[', '{':
		return s.scanFlow(line, value)
	case '*':
		return s.checkAlias(line, value)
	case '@', '`', '%', ']', '}', ',', '&':
		return s.mistake(line, "put the value in quotes", "a value that begins with %q needs quotes", value[:1])
	}
	plain := cutComment(value)
	switch {
	case strings.HasPrefix(plain, "- "):
		return s.mistake(line, "begin the list on the next line, indented", "a list item on the line of its key")
	case strings.Contains(plain, ": "), strings.HasSuffix(plain, ":"):
		return s.mistake(line, "put the value in quotes, or write the second key on the next line", `a second ": " in a line`)
	}
	return nil
}

func (s *scanner) checkAlias(line int, value string) *FormatError {
	match := aliasPattern().FindStringSubmatch(value)
	switch {
	case match == nil:
		return s.mistake(line, "put the value in quotes", `a value that begins with "*" needs quotes`)
	case !s.anchors[match[1]]:
		return s.mistake(line, "put the value in quotes, or add the anchor", "*%s refers to an anchor &%s, which no line above has", match[1], match[1])
	}
	return nil
}

// scanBlockText skips the lines of a text after "|" or ">".
func (s *scanner) scanBlockText(line, indent int, value string) *FormatError {
	if !blockHeaderPattern().MatchString(value) {
		return s.mistake(line, "put the value in quotes, or begin the text on the next line", "text after %q on the same line", value[:1])
	}
	first := s.line
	for ; s.line < len(s.lines); s.line++ {
		text := strings.TrimLeft(s.lines[s.line], " ")
		if text != "" && len(s.lines[s.line])-len(text) <= indent {
			break
		}
	}
	if _, _, isKey := cutKey(strings.TrimSpace(s.textAt(s.line))); s.line == first && s.line < len(s.lines) && !isKey {
		return s.mistake(s.line, "indent the text further than its key", "the text after %q is not indented", value[:1])
	}
	return nil
}

func (s *scanner) textAt(line int) string {
	if line < len(s.lines) {
		return s.lines[line]
	}
	return ""
}

// flowScanner reads a value in quotes or brackets, which may take several lines.
type flowScanner struct {
	*scanner
	open  []opening // brackets
	quote byte      // of the text that it is in; 0: none
	from  int       // the line of that quote
}

type opening struct {
	bracket byte
	line    int
}

// scanFlow reads a value in quotes or brackets to its end.
func (s *scanner) scanFlow(line int, value string) *FormatError {
	f, first := &flowScanner{scanner: s}, value[0]
	for at := line; ; at++ {
		rest, isDone, mistake := f.scanText(at, value)
		if mistake != nil {
			return mistake
		}
		if isDone {
			return f.checkRest(line, at, first, rest)
		}
		if at+1 >= len(s.lines) {
			return f.unclosed()
		}
		if key, _, isKey := cutKey(strings.TrimSpace(s.lines[at+1])); f.quote == 0 && isKey && !strings.ContainsAny(key, `,"'{[`) && f.open[len(f.open)-1].bracket == '[' {
			return f.unclosed()
		}
		value = s.lines[at+1]
		s.line = at + 2
	}
}

func (f *flowScanner) unclosed() *FormatError {
	if f.quote != 0 {
		return f.mistake(f.from, "close the quote", "the quote %c that begins here has no end", f.quote)
	}
	last := f.open[len(f.open)-1]
	return f.mistake(last.line, fmt.Sprintf("close it with %q", closing(last.bracket)), "the bracket %c that begins here has no end", last.bracket)
}

func closing(bracket byte) string {
	if bracket == '[' {
		return "]"
	}
	return "}"
}

// checkRest checks what follows the end of a value, which begins with a quote or bracket.
func (f *flowScanner) checkRest(first, last int, opening byte, rest string) *FormatError {
	rest = strings.TrimSpace(rest)
	switch {
	case rest == "" || rest[0] == '#' || rest[0] == ':':
		return nil
	case opening == '[' || opening == '{':
		return f.mistake(last, "remove it, or put it inside the brackets", "text after %q", closing(opening))
	case first < last:
		return f.mistake(first, "close the quote in the same line", "the quote that begins here ends only in line %d", last+1)
	}
	return f.mistake(first, `put all of the value in quotes, and write a quote in it as \" or ''`, "text after the end of a value")
}

// scanText reads a line of the value. isDone: the value has ended, and rest follows it.
func (f *flowScanner) scanText(line int, text string) (rest string, isDone bool, mistake *FormatError) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case f.quote == '"' && c == '\\':
			if i+1 < len(text) && !strings.ContainsRune(`0abtnvfre "/\N_LPxuU`+"\t", rune(text[i+1])) {
				return "", false, f.mistake(line, `write \\ for a backslash, or use single quotes`, `unknown escape sequence "%s" in double quotes`, text[i:i+2])
			}
			i++
		case f.quote == '\'' && c == '\'' && strings.HasPrefix(text[i+1:], "'"):
			i++
		case f.quote != 0:
			if c == f.quote {
				f.quote = 0
			}
		case c == '#' && i > 0 && text[i-1] == ' ':
			return "", false, nil
		case c == '"' || c == '\'' && (i == 0 || strings.IndexByte(" [{,:", text[i-1]) >= 0):
			f.quote, f.from = c, line
		case c == '[' || c == '{':
			f.open = append(f.open, opening{c, line})
		case (c == ']' || c == '}') && len(f.open) > 0:
			if closing(f.open[len(f.open)-1].bracket) != string(c) {
				return "", false, f.unclosed()
			}
			f.open = f.open[:len(f.open)-1]
		}
		if f.quote == 0 && len(f.open) == 0 && i >= 0 {
			return text[i+1:], true, nil
		}
	}
	return "", false, nil
}
