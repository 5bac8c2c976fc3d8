package localportyaml

import (
	"fmt"
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

var (
	referencePattern    = project.LazyRegexp(`\$\{([^}\n]+)\}`)
	variableNamePattern = project.LazyRegexp(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// reference is a ${NAME} or ${NAME:default} of the file.
type reference struct {
	name       string
	fallback   string
	hasDefault bool
}

// references are those of a file. The Python tool replaces them before it parses YAML, so that they may be anywhere in it; here they become
// words that mean nothing to YAML, and are found again in its values.
type references struct {
	all  []reference
	word string // begins each of those words
}

// replaceReferences returns the text with words for its references.
func replaceReferences(text string) (string, *references) {
	r := &references{word: "LocalPortReference"}
	for strings.Contains(text, r.word) {
		r.word += "X"
	}
	return referencePattern().ReplaceAllStringFunc(text, func(match string) string {
		name, fallback, hasDefault := strings.Cut(match[2:len(match)-1], ":")
		r.all = append(r.all, reference{strings.TrimSpace(name), fallback, hasDefault})
		return fmt.Sprintf("%s%dE", r.word, len(r.all)-1)
	}), r
}

// in reports whether text has references.
func (r *references) in(text string) bool { return strings.Contains(text, r.word) }

// template returns text with its references in our notation. isExact is false if one of them has no counterpart, and stands for itself.
func (r *references) template(text string) (t draft.Template, isExact bool) {
	isExact = true
	return draft.Template(r.expand(draft.EscapeTemplate(text), func(ref reference) string {
		switch {
		case !variableNamePattern().MatchString(ref.name):
			isExact = false
			return draft.EscapeTemplate(ref.String())
		case ref.hasDefault:
			return "${" + ref.name + ":-" + strings.ReplaceAll(draft.EscapeTemplate(ref.fallback), "}", "") + "}"
		}
		return "${" + ref.name + "}"
	})), isExact
}

// plain returns text with the defaults of its references. ok is false if one of them has none.
func (r *references) plain(text string) (value string, ok bool) {
	ok = true
	value = r.expand(text, func(ref reference) string {
		ok = ok && ref.hasDefault
		return ref.fallback
	})
	return value, ok
}

// example returns a value that text may have: with the defaults of its references, or the references themselves.
func (r *references) example(text string) string {
	return r.expand(text, func(ref reference) string {
		if ref.hasDefault && variableNamePattern().MatchString(ref.name) {
			return ref.fallback
		}
		return ref.String()
	})
}

// original returns text as the file has it.
func (r *references) original(text string) string { return r.expand(text, reference.String) }

func (ref reference) String() string {
	if ref.hasDefault {
		return "${" + ref.name + ":" + ref.fallback + "}"
	}
	return "${" + ref.name + "}"
}

func (r *references) expand(text string, expansion func(reference) string) string {
	if !r.in(text) {
		return text
	}
	for i, ref := range r.all {
		if word := fmt.Sprintf("%s%dE", r.word, i); strings.Contains(text, word) {
			text = strings.ReplaceAll(text, word, expansion(ref))
		}
	}
	return text
}
