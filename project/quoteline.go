package project

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder/printable"
)

// A quoted line must show no secret, nor what may be one: people paste errors into public issues.

// mask replaces what is not shown.
const mask = "***"

// maxQuoteLength is the longest line quoted, in characters.
const maxQuoteLength = 160

// span is a stretch of a document that may hold a secret.
type span struct {
	start, end int
	isComment  bool
}

// findSpans finds the strings and comments of a document, also of an invalid one: a string without a closing quote ends with its
// line, a multi-line string with the document.
func findSpans(data []byte) []span {
	var found []span
	for i := 0; i < len(data); {
		s := span{start: i, end: i + 1}
		switch data[i] {
		case '#':
			s.isComment = true
			s.end = i + lineLength(data[i:])
		case '"', '\'':
			s.end = i + stringLength(data[i:])
		default:
			i++
			continue
		}
		found = append(found, s)
		i = s.end
	}
	return found
}

func lineLength(data []byte) int {
	if n := bytes.IndexByte(data, '\n'); n >= 0 {
		return n
	}
	return len(data)
}

// stringLength returns the length of the string that data begins with, quotes included.
func stringLength(data []byte) int {
	quote := data[:1]
	triple := bytes.Repeat(quote, 3)
	if !bytes.HasPrefix(data, triple) {
		line := data[:lineLength(data)]
		if n := indexClosingQuotes(line[1:], quote); n >= 0 {
			return n + 2
		}
		return len(line)
	}
	n := indexClosingQuotes(data[3:], triple)
	if n < 0 {
		return len(data)
	}
	end := n + 6
	for range 2 { // up to two quotes of the string may precede the closing three
		if end < len(data) && data[end] == quote[0] {
			end++
		}
	}
	return end
}

// indexClosingQuotes returns the index of the closing quotes, or -1. Only double-quoted strings have escapes.
func indexClosingQuotes(data, quotes []byte) int {
	for i := 0; i < len(data); i++ {
		if data[i] == '\\' && quotes[0] == '"' {
			i++
			continue
		}
		if bytes.HasPrefix(data[i:], quotes) {
			return i
		}
	}
	return -1
}

// quoteLine returns the line of an offset without comments and with its strings masked, except for the one at offset shown and those that are public.
func (d *document) quoteLine(offset, shown int, secrets []string) string {
	return d.quoteLineWith(offset, func(s span) string {
		switch {
		case s.start == shown:
			return Mask(maskParts(string(d.data[s.start:s.end])), secrets)
		case d.publicOffsets[s.start]:
			return maskPublic(string(d.data[s.start:s.end]), secrets)
		}
		return maskSpan(d.data[s.start:s.end])
	}, func(text string) string { return text })
}

// quoteInvalidLine returns the line of an offset of a file that is not TOML. Because keys and values can only be guessed, it shows little:
// what looks like a header or a key, numbers, true and false.
func (d *document) quoteInvalidLine(offset int) string {
	start, end := d.lineBounds(offset)
	line := d.data[start:end]
	if headerPattern().Match(line) {
		return d.quoteLine(offset, -1, nil)
	}
	m := lineMasker{line: string(line), start: start, isSecret: isSecretName(string(line)), hasPublicKeys: !d.isInEnv(start) && !foreignTablePattern().Match(line)}
	return d.quoteLineWith(offset, func(s span) string { return m.maskString(d.data, s) }, m.maskBareWords)
}

// lineMasker masks a line of a file that is not TOML.
type lineMasker struct {
	line          string
	start         int  // its offset
	isSecret      bool // it has the name of a secret, so numbers are masked too
	hasPublicKeys bool // it may have keys whose values are shown
}

// foreignTablePattern matches a line with an inline table that has keys of the user's.
var foreignTablePattern = LazyRegexp(`^\s*["']?(?i:env|environment|vars|variables|headers|options|secrets?)\w*["']?\s*[=:]`)

// keyBeforePattern matches a key and the "=", or YAML's and JSON's ":", before a value.
var keyBeforePattern = LazyRegexp(`(?:^|[{,])\s*["']?([A-Za-z0-9_.-]+)["']?\s*[=:]\s*$`)

// isPublicAfter reports whether text ends with a key that holds no secret.
func (m lineMasker) isPublicAfter(text string) bool {
	match := keyBeforePattern().FindStringSubmatch(text)
	return m.hasPublicKeys && match != nil && isPublicLineKey(match[1])
}

// maskString returns a string in the line: it is shown if it has both quotes and follows a key that holds no secret.
func (m lineMasker) maskString(data []byte, s span) string {
	text := data[s.start:s.end]
	if len(text) > 2 && text[0] == text[len(text)-1] && isPublicLineValue(string(text[1:len(text)-1])) && m.isPublicAfter(m.line[:s.start-m.start]) {
		return string(text)
	}
	return maskSpan(text)
}

// quoteLineWith builds the line of an offset from its spans and the text between them.
func (d *document) quoteLineWith(offset int, inSpan func(span) string, between func(string) string) string {
	start, end := d.lineBounds(offset)
	var b strings.Builder
	at := start
	for s := range d.spansOnLine(start, end) {
		if b.Len() > 4*maxQuoteLength {
			break // more than is quoted, in any script
		}
		if s.start > at {
			b.WriteString(between(string(d.data[at:s.start])))
		}
		switch {
		case s.isComment:
		case s.start < start || s.end > end: // a piece of a string of several lines
			b.WriteString(mask)
		default:
			b.WriteString(inSpan(s))
		}
		at = max(at, s.end)
	}
	if at < end && b.Len() <= 4*maxQuoteLength {
		b.WriteString(between(string(d.data[at:min(end, at+4*maxQuoteLength)])))
	}
	return printable.Truncate(printable.EscapeLine(strings.ReplaceAll(strings.TrimSpace(b.String()), "\t", " ")), maxQuoteLength)
}

// spansOnLine yields the spans on a line in order, except for those that are keys.
func (d *document) spansOnLine(start, end int) iter.Seq[span] {
	first, _ := slices.BinarySearchFunc(d.spans, start, func(s span, offset int) int { return s.end - offset - 1 })
	return func(yield func(span) bool) {
		for _, s := range d.spans[first:] {
			if s.start >= end || !d.keyOffsets[s.start] && !yield(s) {
				return
			}
		}
	}
}

// maskSpan keeps the quotes, so that the reader sees that it is a string.
func maskSpan(text []byte) string {
	if text[0] == '"' || text[0] == '\'' {
		return string(text[0]) + mask + string(text[0])
	}
	return mask
}

var (
	headerPattern    = LazyRegexp(`^\s*\[\[?\s*(services|defaults|env)(\.[\w-]+)*\s*\]?\]?\s*(#.*)?$`)
	bareWordPattern  = LazyRegexp(`[^\s=,\[\]{}]+`)
	literalPattern   = LazyRegexp(`^(true|false|[+-]?[0-9][0-9_.]*)$`)
	beforeKeyPattern = LazyRegexp(`(^|[{,])\s*$`)
	afterKeyPattern  = LazyRegexp(`^[ \t]+=([^=]|$)`) // base64 ends in = and has no blank before it
	yamlKeyPattern   = LazyRegexp(`^[A-Za-z_][A-Za-z0-9_-]*:$`)
)

// maskBareWords masks unquoted words that may have been meant as a string.
func (m lineMasker) maskBareWords(text string) string {
	var b strings.Builder
	at := 0
	for _, word := range bareWordPattern().FindAllStringIndex(text, -1) {
		start, end := word[0], word[1]
		b.WriteString(text[at:start])
		found := text[start:end]
		isAtKey := beforeKeyPattern().MatchString(text[:start])
		switch {
		case isAtKey && (afterKeyPattern().MatchString(text[end:]) || yamlKeyPattern().MatchString(found)),
			!m.isSecret && literalPattern().MatchString(found),
			isPublicLineValue(found) && m.isPublicAfter(text[:start]):
			b.WriteString(found)
		default:
			b.WriteString(mask)
		}
		at = end
	}
	return b.String() + text[at:]
}
