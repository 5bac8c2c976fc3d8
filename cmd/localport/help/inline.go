package help

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// word is what is not broken between lines: a word, or code.
type word struct {
	text          string
	isBold        bool
	noSpaceBefore bool
}

type words []word

// line is text that is written in one line; width is its columns without escape sequences.
type line struct {
	text  string
	width int
}

// spans matches what has a meaning within a line: code, bold text, and a link. It is compiled when it is used: every command would pay for it.
var spans = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("``(.+?)``|`([^`]+)`|\\*\\*([^*]+)\\*\\*|\\[([^]]+)\\]\\(([^)]+)\\)")
})

// words splits text. Without escape sequences code keeps its quotes.
func (r *renderer) words(text string) words {
	var all words
	isAfterSpace := true
	plain := func(text string, isBold bool) {
		fields := strings.Fields(text)
		for i, field := range fields {
			all = append(all, word{field, isBold, i == 0 && !isAfterSpace && !strings.HasPrefix(text, " ")})
		}
		if text != "" {
			isAfterSpace = strings.HasSuffix(text, " ")
		}
	}
	at := 0
	for _, m := range spans().FindAllStringSubmatchIndex(text, -1) {
		plain(text[at:m[0]], false)
		group := func(n int) string { return text[max(m[2*n], 0):max(m[2*n+1], 0)] } // empty if it has not matched
		switch at = m[1]; {
		case group(1)+group(2) != "":
			code := group(1) + group(2)
			if !r.bold {
				code = "`" + code + "`"
			}
			all = append(all, word{code, true, !isAfterSpace})
			isAfterSpace = false
		case group(3) != "":
			plain(group(3), true)
		default:
			plain(group(4)+" ("+group(5)+")", false)
		}
	}
	plain(text[at:], false)
	return all
}

// width returns the columns of the words in one line.
func (ws words) width() int {
	n := 0
	for i, w := range ws {
		n += utf8.RuneCountInString(w.text)
		if i > 0 && !w.noSpaceBefore {
			n++
		}
	}
	return n
}

// join returns the words as one line.
func (ws words) join(r *renderer) line {
	var b strings.Builder
	for i, w := range ws {
		if i > 0 && !w.noSpaceBefore {
			b.WriteByte(' ')
		}
		if w.isBold {
			b.WriteString(r.emphasize(w.text))
		} else {
			b.WriteString(w.text)
		}
	}
	return line{b.String(), ws.width()}
}

// wrap splits text into lines of at most columns, unless a word is longer.
func (r *renderer) wrap(text string, columns int) []line {
	var lines []line
	var current words
	for rest := r.words(text); len(rest) > 0; {
		n := 1 // words that stay together
		for n < len(rest) && rest[n].noSpaceBefore {
			n++
		}
		if len(current) > 0 && append(slices.Clip(current), rest[:n]...).width() > columns {
			lines = append(lines, current.join(r))
			current = nil
		}
		current = append(current, rest[:n]...)
		rest = rest[n:]
	}
	if len(current) > 0 {
		lines = append(lines, current.join(r))
	}
	return lines
}

// emphasize returns bold text, if escape sequences may be used.
func (r *renderer) emphasize(text string) string {
	if !r.bold || text == "" {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}
