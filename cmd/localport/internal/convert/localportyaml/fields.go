package localportyaml

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// field is a value of the file and where it is.
type field struct {
	path  string // services[0].connection.host
	line  int
	value yamlfile.Node
}

// mapping is a mapping whose keys are taken one by one, so that those that nobody takes can be reported.
type mapping struct {
	field
	isTaken map[string]bool
}

func newMapping(path string, node yamlfile.Node) *mapping {
	return &mapping{field{path, node.Line(), node}, map[string]bool{}}
}

// mapping returns the keys of a value, which is reported if it is there and has none.
func (c *converter) mapping(f field) *mapping {
	if f.value.Exists() && !f.value.IsMapping() {
		c.report(f, "left out: it must be a mapping; it is %s", f.value.Describe())
	}
	return newMapping(f.path, f.value)
}

// take returns the value of a key. Of a key that is there twice, the last one counts, as in PyYAML.
func (m *mapping) take(key string) field {
	m.isTaken[key] = true
	found := field{path: joinPath(m.path, key), line: m.line}
	for _, entry := range m.value.Entries() {
		if entry.Key == key {
			found.line, found.value = entry.Line, entry.Value
		}
	}
	return found
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (c *converter) report(f field, format string, args ...any) {
	c.findings = append(c.findings, convert.Finding{Path: c.path, Line: f.line, Key: c.refs.original(f.path), Message: c.refs.original(fmt.Sprintf(format, args...))})
}

// reportUnknown reports the keys that have not been taken.
func (c *converter) reportUnknown(m *mapping) {
	for _, entry := range m.value.Entries() {
		if !m.isTaken[entry.Key] {
			c.report(field{path: joinPath(m.path, entry.Key), line: entry.Line}, "left out: the Python LocalPort does not know this key and ignores it%s", project.SuggestNearest(entry.Key, slices.Sorted(maps.Keys(m.isTaken))))
		}
	}
}

// text returns a string: a string, or a draft.Template if it has references; nil if there is none.
func (c *converter) text(f field) any {
	switch {
	case !f.value.Exists():
		return nil
	case !f.value.IsScalar():
		c.report(f, "left out: it must be a single value; it is %s", f.value.Describe())
		return nil
	case !c.refs.in(f.value.Text()):
		return f.value.Text()
	}
	template, isExact := c.refs.template(f.value.Text())
	if !isExact {
		c.report(f, "the name in ${…} is not that of a variable; it was kept as plain text")
	}
	return template
}

// plain returns a scalar for a key whose value cannot be made of variables: their defaults are used.
func (c *converter) plain(f field) (string, bool) {
	text := f.value.Text()
	if !f.value.IsScalar() || !c.refs.in(text) {
		return text, f.value.IsScalar()
	}
	value, ok := c.refs.plain(text)
	if !ok {
		c.report(f, "%s was left out: this value cannot come from a variable; write it into .localport.local.toml, which each person has for themselves", text)
		return "", false
	}
	c.report(f, "%s became %s: this value cannot come from a variable; one that differs from person to person belongs in .localport.local.toml", text, value)
	return value, true
}

func (c *converter) isTrue(f field) bool {
	text, _ := c.plain(f)
	switch text {
	case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF":
		return false
	}
	return text != ""
}

// number returns a number between the bounds; another value is reported.
func (c *converter) number(f field, lowest, highest float64) (float64, bool) {
	if !f.value.Exists() {
		return 0, false
	}
	text, ok := c.plain(f)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || !(number >= lowest && number <= highest) {
		c.report(f, "%s was left out: must be a number from %v to %v", f.value.Text(), lowest, highest)
		return 0, false
	}
	return number, true
}

// integer returns a whole number as an int; nil if there is none.
func (c *converter) integer(f field, lowest, highest float64) any {
	number, ok := c.number(f, lowest, highest)
	if !ok {
		return nil
	}
	return int(math.Round(number))
}

// maxSeconds is a duration that no timeout needs.
const maxSeconds = 10 * 365 * 24 * 3600

// seconds returns a number of seconds as a duration; nil if there is none.
func (c *converter) seconds(f field) any {
	number, ok := c.number(f, 0.001, maxSeconds)
	if !ok {
		return nil
	}
	return strconv.FormatFloat(number, 'f', -1, 64) + "s"
}

// words returns a list of strings.
func (c *converter) words(f field) (words []string) {
	if f.value.Exists() && !f.value.IsSequence() {
		c.report(f, "left out: it must be a list, with \"- \" before each item; it is %s", f.value.Describe())
	}
	for _, item := range f.value.Items() {
		if text, ok := c.plain(field{f.path, item.Line(), item}); ok {
			words = append(words, text)
		}
	}
	return words
}

// secret returns a secret: the variable that the file refers to, or a new one whose value the user has to copy.
func (c *converter) secret(f field, service, key string) any {
	if !f.value.Exists() || f.value.Text() == "" {
		return nil
	}
	if c.refs.in(f.value.Text()) && c.holdsNoSecret(f.value.Text()) {
		return c.text(f)
	}
	variable := draft.SecretVariable(service, key)
	c.report(f, "a secret, not copied: put it into .env as %s=…", variable)
	return convert.SecretReference(variable)
}

// holdsNoSecret reports whether a text consists of references without defaults, and of what may stand before a token.
func (c *converter) holdsNoSecret(text string) bool {
	rest := c.refs.expand(text, func(ref reference) string { return ref.fallback })
	return rest == "" || rest == "Bearer " || rest == "Basic "
}

// host returns the name or address of a host; another value is reported.
func (c *converter) host(f field) any {
	if err := project.ValidateHost("port")(c.refs.example(f.value.Text())); err != nil {
		c.report(f, "%s was left out: %v", draft.Quote(f.value.Text()), err)
		return nil
	}
	return c.word(f)
}

var (
	wordPattern     = project.LazyRegexp(`^[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]*$`)
	argumentPattern = project.LazyRegexp(`^[^-]`)
)

// word returns a text without spaces that does not look like an option; another one is reported.
func (c *converter) word(f field) any { return c.matching(f, wordPattern(), "a single word") }

// argument returns a text that does not look like an option; another one is reported.
func (c *converter) argument(f field) any { return c.matching(f, argumentPattern(), "a name") }

func (c *converter) matching(f field, pattern *regexp.Regexp, what string) any {
	text, value := c.text(f), c.refs.example(f.value.Text())
	if text == nil || value == "" {
		return nil
	}
	if !pattern.MatchString(value) {
		c.report(f, "left out: %s is not %s", draft.Quote(value), what)
		return nil
	}
	return text
}
