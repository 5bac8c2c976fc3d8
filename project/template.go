package project

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// template is a parsed string value: literal text and references, in turn.
type template []part

type part struct {
	literal string
	ref     *reference // nil: only the literal
}

// reference is one ${…}.
type reference struct {
	variable string   // ${NAME}; empty: a service's
	service  string   // ${service.attr}
	attr     string   // host, port or addr
	op       string   // "", ":-" or ":?"
	fallback template // :-word
	message  string   // :?message
}

var (
	variableNamePattern = LazyRegexp(`^[A-Za-z_][A-Za-z0-9_]*$`)
	serviceNamePattern  = LazyRegexp(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	namePrefixPattern   = LazyRegexp(`^[A-Za-z0-9_.-]*`)
)

// maxNesting is the limit for defaults within defaults.
const maxNesting = 8

var (
	errUnclosed  = errors.New(`missing "}" after "${"; write "$$" for a literal "$"`)
	errReference = errors.New(
		`invalid "${…}": use ${NAME}, ${NAME:-default}, ${NAME:?message} or ${service.port}; write "$$" for a literal "$"`)
	errNesting = fmt.Errorf(`"${…}" is nested more than %d levels deep`, maxNesting)
	errDefault = errors.New("a reference to a service cannot have a default or a message")
	errAttr    = errors.New("invalid reference to a service: use host, port or addr after the dot")
)

// parseTemplate parses text. Its errors quote nothing of the text, which may be a password.
func parseTemplate(text string) (template, error) {
	t, rest, err := parseUntil(text, false, 0)
	if err == nil && rest != "" {
		err = errReference
	}
	return t, err
}

// parseUntil parses to the end of text or, in a default, to the brace that ends it; rest begins with that brace.
func parseUntil(text string, inDefault bool, depth int) (t template, rest string, err error) {
	if depth > maxNesting {
		return nil, "", errNesting
	}
	stop := "$"
	if inDefault {
		stop = "$}"
	}
	for {
		at := strings.IndexAny(text, stop)
		if at < 0 {
			return t.appendLiteral(text), "", nil
		}
		t, text = t.appendLiteral(text[:at]), text[at:]
		switch {
		case text[0] == '}':
			return t, text, nil
		case strings.HasPrefix(text, "$$"):
			t, text = t.appendLiteral("$"), text[2:]
		case strings.HasPrefix(text, "${"):
			var ref *reference
			if ref, text, err = parseReference(text[2:], depth); err != nil {
				return nil, "", err
			}
			t = append(t, part{ref: ref})
		default: // a literal dollar
			t, text = t.appendLiteral("$"), text[1:]
		}
	}
}

// appendLiteral returns t with text appended.
func (t template) appendLiteral(text string) template {
	if text == "" {
		return t
	}
	if n := len(t); n > 0 && t[n-1].ref == nil {
		t[n-1].literal += text
		return t
	}
	return append(t, part{literal: text})
}

// parseReference parses what follows "${", to its brace.
func parseReference(text string, depth int) (*reference, string, error) {
	name := namePrefixPattern().FindString(text)
	if name == text {
		return nil, "", errUnclosed
	}
	ref, err := newReference(name)
	if err != nil {
		return nil, "", err
	}
	text = text[len(name):]
	switch {
	case strings.HasPrefix(text, ":-"):
		ref.op = ":-"
		ref.fallback, text, err = parseUntil(text[2:], true, depth+1)
	case strings.HasPrefix(text, ":?"):
		ref.op = ":?"
		if end := strings.IndexByte(text, '}'); end >= 0 {
			ref.message, text = text[2:end], text[end:]
		} else {
			text = ""
		}
	}
	switch {
	case err != nil:
		return nil, "", err
	case text == "":
		return nil, "", errUnclosed
	case text[0] != '}':
		return nil, "", errReference
	case ref.service != "" && ref.op != "":
		return nil, "", errDefault
	}
	return ref, text[1:], nil
}

func newReference(name string) (*reference, error) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		if !variableNamePattern().MatchString(name) {
			return nil, errReference
		}
		return &reference{variable: name}, nil
	}
	ref := &reference{service: name[:dot], attr: name[dot+1:]}
	switch {
	case !serviceNamePattern().MatchString(ref.service):
		return nil, errReference
	case ref.attr != "host" && ref.attr != "port" && ref.attr != "addr":
		return nil, errAttr
	}
	return ref, nil
}

// references yields every reference, those in defaults too, whether or not the default would be used.
func (t template) references() iter.Seq[*reference] {
	return func(yield func(*reference) bool) { t.visitReferences(yield) }
}

func (t template) visitReferences(yield func(*reference) bool) bool {
	for _, p := range t {
		if p.ref != nil && (!yield(p.ref) || !p.ref.fallback.visitReferences(yield)) {
			return false
		}
	}
	return true
}

// ReferencedServices returns the names of the services to which a value as written refers.
func ReferencedServices(text string) (names []string) {
	t, _ := parseTemplate(text)
	for ref := range t.references() {
		if ref.service != "" {
			names = append(names, ref.service)
		}
	}
	return names
}

// resolver returns the values of references.
type resolver struct {
	variable func(name string) (string, bool)
	service  func(ref *reference) (string, error)
}

// missingVariableError reports a variable that is set nowhere.
type missingVariableError struct {
	name    string
	message string // the config's own
}

func (e *missingVariableError) Error() string {
	if e.message != "" {
		return fmt.Sprintf("variable %s is not set or is empty: %s", e.name, e.message)
	}
	advice := ""
	if e.name == "port" {
		advice = "; in a command, {port} is the service's port"
	}
	return fmt.Sprintf("variable %s is not set in the environment or in %s%s", e.name, EnvName, advice)
}

// resolve returns the text with every reference replaced by its value.
func (t template) resolve(in resolver) (string, error) {
	var b strings.Builder
	for _, p := range t {
		text, err := p.resolve(in)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func (p part) resolve(in resolver) (string, error) {
	ref := p.ref
	if ref == nil {
		return p.literal, nil
	}
	if ref.service != "" {
		return in.service(ref)
	}
	value, set := in.variable(ref.variable)
	switch {
	case ref.op == ":-" && value == "":
		return ref.fallback.resolve(in)
	case ref.op == ":?" && value == "", !set:
		return "", &missingVariableError{name: ref.variable, message: ref.message}
	}
	return value, nil
}

// constantText returns text with each $$ replaced by $; false if it has references.
func constantText(text string) (string, bool) {
	t, err := parseTemplate(text)
	for range t.references() {
		return "", false
	}
	plain, _ := t.resolve(resolver{}) // there is nothing in it to resolve
	return plain, err == nil
}
