package manpage

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// page is a manual page that is being written.
type page struct{ strings.Builder }

// raw writes what has the macros of man(7) already.
func (p *page) raw(text string) { p.WriteString(text) }

// macro writes a macro with its arguments.
func (p *page) macro(name string, arguments ...string) {
	p.WriteString("." + name)
	for _, argument := range arguments {
		p.WriteString(` "` + strings.ReplaceAll(escape(argument), `"`, `\(dq`) + `"`)
	}
	p.WriteString("\n")
}

// item begins an entry of a list, whose name is bold.
func (p *page) item(name string) {
	p.macro("TP")
	p.WriteString(`\fB` + escape(name) + "\\fR\n")
}

// text writes a paragraph's lines.
func (p *page) text(text string) {
	for line := range strings.Lines(text) {
		p.line(strings.TrimSpace(line))
	}
}

// line writes one line that is no macro.
func (p *page) line(line string) {
	if line == "" {
		return
	}
	if line[0] == '.' || line[0] == '\'' {
		p.WriteString(`\&`)
	}
	p.WriteString(escape(line) + "\n")
}

// detail writes the long help of a command: paragraphs, and indented lines that stay as they are.
func (p *page) detail(detail string) {
	for paragraph := range strings.SplitSeq(strings.Trim(detail, "\n"), "\n\n") {
		if strings.TrimSpace(paragraph) == "" {
			continue
		}
		p.macro("PP")
		isExample := false
		for line := range strings.SplitSeq(paragraph, "\n") {
			if isIndented := strings.HasPrefix(line, "  "); isIndented != isExample {
				isExample = isIndented
				p.example(isExample)
			}
			if !isExample {
				line = strings.TrimSpace(line)
			}
			p.line(line)
		}
		if isExample {
			p.example(false)
		}
	}
}

// example begins or ends lines that stay as they are.
func (p *page) example(begins bool) {
	if begins {
		p.macro("EX")
	} else {
		p.macro("EE")
	}
}

// replacer writes the characters that roff would change as they are meant to be read, and to be copied into a shell (groff_char(7)).
var replacer = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`)

// escape writes text as it is meant to be read. Words that people copy are never hyphenated; a URL may be broken after a slash.
func escape(text string) string {
	words := strings.Split(text, " ")
	for i, word := range words {
		words[i] = escapeNonASCII(replacer.Replace(word))
		if strings.Contains(word, "://") { // it may be longer than a line
			words[i] = strings.ReplaceAll(words[i], "/", `/\:`)
		}
		if strings.Contains(strings.ToLower(word), "localport") {
			words[i] = `\%` + words[i]
		}
	}
	return strings.Join(words, " ")
}

// escapeNonASCII writes other characters by their code points: not every roff reads UTF-8.
func escapeNonASCII(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}
