package project

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/localport-sh/localport/forwarder/printable"
)

// document is one TOML file as a tree of keys and values with their positions. go-toml decides what is valid; the
// tree is then built from its parser, because decoding into Go values loses the positions and stops at the first error.
type document struct {
	files         *Files
	path          string
	order         int // in which the files are read
	data          []byte
	secrets       []string // what no message may show; known after interpolation
	root          *node
	keyOffsets    map[int]bool // offsets at which a key begins: a quoted key is not masked
	spans         []span       // what may hold a secret: strings, comments, and numbers of secret keys
	publicOffsets map[int]bool // offsets of strings that are shown where their line is quoted
}

type kind string

// The kinds of node, in the words that messages use.
const (
	tableKind   kind = "a table"
	arrayKind   kind = "an array"
	stringKind  kind = "a string"
	integerKind kind = "an integer"
	floatKind   kind = "a float"
	boolKind    kind = "a boolean"
	dateKind    kind = "a date"
)

// node is a value of a document, with the key that holds it.
type node struct {
	doc         *document
	parent      *node  // nil: the document's root
	index       int    // of an array's element; -1: it has a name
	name        string // host, of services.db.connection.host; an element has its array's
	keyOffset   int    // offset of the key; of an array's element, that of the value
	valueOffset int    // offset of the value; of a table's header, that of the key
	isSecret    bool   // it must never be shown

	kind           kind
	text           string           // of a scalar; strings are replaced by what interpolation makes of them
	isInterpolated bool             // ${…} in it have been resolved
	variables      []string         // that it mentioned as ${NAME}
	hasError       bool             // an error about the value has been reported: no other is
	children       []*node          // the values of a table, or the items of an array, in the order of the file
	members        map[string]*node // the values of a table
}

// descendants yields n and everything below it, in the order of the file.
func (n *node) descendants() iter.Seq[*node] {
	return func(yield func(*node) bool) { n.visit(yield) }
}

func (n *node) visit(yield func(*node) bool) bool {
	return yield(n) && !slices.ContainsFunc(n.children, func(m *node) bool { return !m.visit(yield) })
}

// member returns the node at a path of names below n; nil if there is none.
func (n *node) member(names ...string) *node {
	for _, name := range names {
		if n == nil {
			return nil
		}
		n = n.members[name]
	}
	return n
}

// membersAt returns the members of the table at a path of names below n, in the order of the file; none if there is no table.
func (n *node) membersAt(names ...string) []*node {
	if m := n.member(names...); m != nil && m.kind == tableKind {
		return m.children
	}
	return nil
}

// merge adds the keys of override to n. Tables are merged; any other value of override replaces that of n.
func (n *node) merge(override *node) {
	for _, m := range override.children {
		existing := n.members[m.name]
		if existing != nil && existing.kind == tableKind && m.kind == tableKind {
			existing.merge(m)
		} else {
			n.setMember(m)
		}
	}
}

// setMember adds m to the table n. It replaces a member of the same name.
func (n *node) setMember(m *node) {
	if at := slices.Index(n.children, n.members[m.name]); at >= 0 {
		n.children[at] = m
	} else {
		n.children = append(n.children, m)
	}
	n.members[m.name] = m
}

// parseDocument parses a file. If it is not TOML, it returns one diagnostic and no document.
func parseDocument(f *Files, path string, data []byte) (*document, *Diagnostic) {
	d := &document{files: f, path: path, data: data, keyOffsets: map[int]bool{}, spans: findSpans(data)}
	d.root = &node{doc: d, kind: tableKind, members: map[string]*node{}}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return nil, d.syntaxError(err)
	}
	var p unstable.Parser
	p.Reset(data)
	table := d.root
	for p.NextExpression() {
		switch expr := p.Expression(); expr.Kind {
		case unstable.Table:
			table = d.openTable(expr)
		case unstable.ArrayTable:
			table = d.openArrayTable(expr)
		case unstable.KeyValue:
			d.addKeyValue(table, expr)
		}
	}
	slices.SortFunc(d.spans, func(a, b span) int { return a.start - b.start })
	return d, nil
}

// strconvErrorPattern is the part of a message of go-toml's that quotes the file.
var strconvErrorPattern = LazyRegexp(`: strconv\..*`)

// syntaxAdvice is what to write instead, by the beginning of a message of go-toml's. A message that is not listed is
// shown as it is.
var syntaxAdvice = []struct{ message, advice string }{
	{"unexpected character", valueAdvice},
	{"expected keyword", valueAdvice},
	{"strings must be quoted", valueAdvice},
	{"basic strings cannot have new lines", "a closing quote is missing"},
	{"literal strings cannot have new lines", "a closing quote is missing"},
	{"expected '=' after key", "write key = value"},
	{"invalid character at start of key", `a line is key = value, a [table], or a comment that starts with "#"`},
	{"expected newline", "write one key = value per line, without a comma or a semicolon at its end"},
	{"integers cannot have leading zeroes", "write it without the zeros at its beginning"},
	{"decimal number is too large", "write a smaller number"},
	{"expected ',' or '}'", "separate the keys by commas"},
	{"multiline basic string not terminated", `a closing """ is missing`},
	{"multiline literal string not terminated", "a closing ''' is missing"},
	{"array is incomplete", `a closing "]" is missing`},
	{"expected ']' to close table name", `a table is a line such as [services.api], without spaces in the name`},
	{"invalid hexadecimal digit in unicode escape", backslashAdvice},
	{"invalid escaped character", backslashAdvice},
	{"unicode character", backslashAdvice},
}

const backslashAdvice = `in "…" a backslash begins an escape: write the text in single quotes ('…')`

// redefinitions is what to do about a name that is defined twice, by a part of go-toml's message.
var redefinitions = []struct{ part, advice string }{
	{"is already defined", "remove one of the two lines"},
	{"already exists", "the keys of a table stand together below one header"},
	{"should be a table, not a value", "it has a value above: move these keys into that"},
}

// foreignSyntax is what a line that is not TOML probably is, by its beginning.
var foreignSyntax = []struct{ prefix, message string }{
	{"//", `a comment starts with "#"`},
	{"{", "the file must be TOML, not JSON: a service begins with a line such as [services.api]"},
	{"<<<<<<<", mergeConflict},
	{"=======", mergeConflict},
	{">>>>>>>", mergeConflict},
	{"---", "the file must be TOML, not YAML: a service begins with a line such as [services.api]"},
	{";", `a comment starts with "#"`},
	{"--", `a comment starts with "#"`},
	{"/*", `a comment starts with "#"`},
	{"<", "the file must be TOML, not XML: a service begins with a line such as [services.api]"},
}

const mergeConflict = "unresolved merge conflict: keep one of the two parts, and remove the lines with <<<<<<<, ======= and >>>>>>>"

// typographicQuotes are what word processors and chat programs write instead of straight quotes.
const typographicQuotes = "“”„‘’‚"

const valueAdvice = "write strings in quotes, and true and false in lowercase"

func (d *document) syntaxError(err error) *Diagnostic {
	line, col := 1, 1
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, col = decode.Position()
	}
	start, end := d.lineBounds(d.lineOffset(line))
	text := string(d.data[start:end])
	shown := ""
	for _, foreign := range foreignSyntax {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(text), foreign.prefix); ok {
			err, shown = errors.New(foreign.message), foreign.prefix
			if rest != "" {
				shown += " …"
			}
			break
		}
	}
	switch r, _ := utf8.DecodeRuneInString(text[min(col-1, len(text)):]); {
	case bytes.HasPrefix(d.data, byteOrderMark):
		err, shown = errors.New("the file starts with a byte order mark; save it as UTF-8 without BOM"), ""
	case strings.ContainsRune(typographicQuotes, r):
		err = errors.New("typographic quotes; write straight ones (\" or ')")
	case r >= utf8.RuneSelf && r != utf8.RuneError && !strconv.IsPrint(r):
		err = fmt.Errorf("invisible character %U; remove it or write a space", r)
	}
	message := strconvErrorPattern().ReplaceAllString(strings.TrimPrefix(err.Error(), "toml: "), "")
	if shown == "" && isLineMessage(message) {
		var mistake string
		if mistake, shown = lineMistake(text, d.isInEnv(start)); mistake != "" {
			message = mistake
		}
		if whole := d.foreignFile(start); whole != "" {
			message = whole
		}
	}
	for _, known := range syntaxAdvice {
		if strings.HasPrefix(message, known.message) {
			message += "; " + known.advice
			break
		}
	}
	for _, known := range redefinitions {
		if strings.Contains(message, known.part) {
			message += "; " + known.advice
			break
		}
	}
	source := d.quoteInvalidLine(start)
	if shown != "" {
		source = printable.Truncate(printable.EscapeLine(shown), maxQuoteLength)
	}
	return &Diagnostic{Path: d.path, Line: line, Col: col, Message: printable.EscapeLine(message), Source: source}
}

// lineMessages are the beginnings of go-toml's messages that may be about a line of another language; lineMistake says more about it.
var lineMessages = []string{
	"unexpected character", "expected keyword", "strings must be quoted", "expected '='", "invalid character at start of key", "expected ']' to close table name",
	"expected newline", "dates are expected", "integers cannot have leading zeroes", "decimal number is too large", "array is incomplete", "expected digit", "expected hours",
}

func isLineMessage(message string) bool {
	return slices.ContainsFunc(lineMessages, func(known string) bool { return strings.HasPrefix(message, known) })
}

var (
	tableHeaderLine = LazyRegexp(`(?m)^[ \t]*\[[^\n]*$`)
	envHeaderLine   = LazyRegexp(`^\s*\[\s*env\s*\]`)
	composeLine     = LazyRegexp(`(?m)^services:\s*(?:#.*)?$(?s:.*)^\s+(?:image|build|ports|container_name):`)
	manifestLine    = LazyRegexp(`(?m)^apiVersion:`)
)

// isInEnv reports whether the last header above an offset is [env].
func (d *document) isInEnv(offset int) bool {
	headers := tableHeaderLine().FindAll(d.data[:offset], -1)
	return len(headers) > 0 && envHeaderLine().Match(headers[len(headers)-1])
}

var statementLine = LazyRegexp(`(?m)^[ \t]*[^#\s]`)

// foreignFile says what the whole file is, if there is nothing of TOML above an offset; empty: not known.
func (d *document) foreignFile(offset int) string {
	switch {
	case statementLine().Match(d.data[:offset]):
		return ""
	case composeLine().Match(d.data):
		return `the file must be TOML, not a compose file: rename it to compose.yml, and run "localport init --from compose.yml"`
	case manifestLine().Match(d.data):
		return `the file must be TOML, not a Kubernetes manifest: move it away, and run "localport init --from-kubectl"`
	}
	return ""
}

// openTable returns the table that a header names, and makes it if it does not exist.
func (d *document) openTable(header *unstable.Node) *node {
	table, last := d.descend(d.root, header.Key())
	found := d.childTable(table, last)
	found.keyOffset, found.valueOffset = int(last.Raw.Offset), int(last.Raw.Offset)
	return found
}

func (d *document) openArrayTable(header *unstable.Node) *node {
	table, last := d.descend(d.root, header.Key())
	array := table.members[string(last.Data)]
	if array == nil || array.kind != arrayKind {
		array = d.addChild(table, last, arrayKind)
	}
	return array.addItem(tableKind, int(last.Raw.Offset))
}

func (d *document) addKeyValue(table *node, expr *unstable.Node) {
	table, last := d.descend(table, expr.Key())
	d.setValue(d.addChild(table, last, dateKind), expr.Value())
}

// descend returns the table that a dotted key leads to, without its last part, and that last part.
func (d *document) descend(table *node, keys unstable.Iterator) (*node, *unstable.Node) {
	keys.Next()
	last := keys.Node()
	for keys.Next() {
		table = d.childTable(table, last)
		last = keys.Node()
	}
	return table, last
}

// childTable returns the table under key; of an array of tables, the last one (TOML 1.0, "Array of Tables").
func (d *document) childTable(table *node, key *unstable.Node) *node {
	d.keyOffsets[int(key.Raw.Offset)] = true
	switch found := table.members[string(key.Data)]; {
	case found == nil:
		return d.addChild(table, key, tableKind)
	case found.kind == arrayKind && len(found.children) > 0:
		return found.children[len(found.children)-1]
	default:
		return found
	}
}

// addChild puts a new node under key.
func (d *document) addChild(table *node, key *unstable.Node, k kind) *node {
	offset := int(key.Raw.Offset)
	d.keyOffsets[offset] = true
	n := &node{doc: d, parent: table, index: -1, name: string(key.Data), keyOffset: offset, valueOffset: offset, kind: k, members: map[string]*node{}}
	n.isSecret = table.isSecret || isSecretName(n.name)
	table.setMember(n)
	return n
}

// addItem appends a new node to an array.
func (n *node) addItem(k kind, at int) *node {
	m := &node{doc: n.doc, parent: n, index: len(n.children), name: n.name, keyOffset: at, valueOffset: at, kind: k, isSecret: n.isSecret, members: map[string]*node{}}
	n.children = append(n.children, m)
	return m
}

// setValue gives n the value of the parser's node.
func (d *document) setValue(n *node, value *unstable.Node) {
	if value.Raw.Length > 0 {
		n.valueOffset = int(value.Raw.Offset)
	} else {
		n.valueOffset = d.valueStart(n.keyOffset)
	}
	n.kind, n.text = kindOf(value.Kind), string(value.Data)
	switch n.kind {
	case tableKind:
		for members := value.Children(); members.Next(); {
			d.addKeyValue(n, members.Node())
		}
	case arrayKind:
		for items := value.Children(); items.Next(); {
			d.setValue(n.addItem(dateKind, n.valueOffset), items.Node())
		}
	case stringKind: // findSpans has found it
	default:
		if n.isSecret {
			d.spans = append(d.spans, span{start: n.valueOffset, end: n.valueOffset + int(value.Raw.Length)})
		}
	}
}

// valueStart returns the offset of the value of the key at offset. The parser does not say where an array begins; an array
// within an array counts as beginning where the outer one does, for there is no = after it.
func (d *document) valueStart(offset int) int {
	rest := d.data[offset:]
	equals := bytes.IndexByte(rest, '=')
	if equals < 0 || bytes.IndexByte(rest[:equals], '\n') >= 0 || !d.keyOffsets[offset] {
		return offset
	}
	value := bytes.TrimLeft(rest[equals+1:], " \t")
	return len(d.data) - len(value)
}

func kindOf(k unstable.Kind) kind {
	switch k {
	case unstable.InlineTable:
		return tableKind
	case unstable.Array:
		return arrayKind
	case unstable.String:
		return stringKind
	case unstable.Integer:
		return integerKind
	case unstable.Float:
		return floatKind
	case unstable.Bool:
		return boolKind
	}
	return dateKind
}

var bareKeyPattern = LazyRegexp(`^[A-Za-z0-9_-]+$`)

// joinKey returns the dotted key of name in a table, quoted where TOML requires it.
func joinKey(table, name string) string {
	if !bareKeyPattern().MatchString(name) {
		name = strconv.Quote(name)
	}
	if table == "" {
		return name
	}
	return table + "." + name
}

// path returns the whole dotted key, such as services.db.tags[0]; empty for the root.
func (n *node) path() string {
	switch {
	case n.parent == nil:
		return ""
	case n.index >= 0:
		return fmt.Sprintf("%s[%d]", n.parent.path(), n.index)
	}
	return joinKey(n.parent.path(), n.name)
}

// position returns the line and the column, in bytes and from 1, of an offset.
func (d *document) position(offset int) (line, col int) {
	before := d.data[:offset]
	return 1 + bytes.Count(before, []byte("\n")), offset - bytes.LastIndexByte(before, '\n')
}

// lineBounds returns the offsets of the beginning and the end of the line of an offset.
func (d *document) lineBounds(offset int) (start, end int) {
	start = 1 + bytes.LastIndexByte(d.data[:offset], '\n')
	return start, start + lineLength(d.data[start:])
}

// lineOffset returns the offset of the beginning of a line.
func (d *document) lineOffset(number int) (offset int) {
	for range number - 1 {
		offset = min(offset+lineLength(d.data[offset:])+1, len(d.data))
	}
	return offset
}
