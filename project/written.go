package project

import (
	"slices"
	"strings"
)

// WrittenEntry is a key of a config as the files give it: .localport.local.toml is merged, no ${…} is resolved.
type WrittenEntry struct {
	Key   string
	Value any // string, int64, float64, bool, []string, []int64 or []WrittenEntry; nil: of a type that no key has
	// HoldsSecret: the value is a string that holds a secret itself, not only a reference to one.
	HoldsSecret bool
	// URLPassword is the only secret in the string: the password in a URL.
	URLPassword string
}

// Written returns the entries of a valid config. Its error is that of Parse.
func (f *Files) Written(o Options) ([]WrittenEntry, error) {
	parsed, err := Parse(f, o)
	if err != nil {
		return nil, err
	}
	p := newParser(f, o)
	p.readDocuments()
	p.markSecretSettings()
	secrets := slices.Clone(p.secrets) // of secret keys
	for name, value := range parsed.DotEnv {
		if isSecretName(name) {
			secrets = append(secrets, value)
		}
	}
	return writtenEntries(p.root, secrets), nil
}

func writtenEntries(table *node, secrets []string) (entries []WrittenEntry) {
	for _, n := range table.children {
		entry := WrittenEntry{Key: n.name, Value: n.writtenValue(secrets), HoldsSecret: n.holdsSecret(secrets)}
		if entry.HoldsSecret {
			entry.URLPassword = n.onlyURLPassword(secrets)
		}
		entries = append(entries, entry)
	}
	return entries
}

func (n *node) writtenValue(secrets []string) any {
	var value any
	switch n.kind {
	case tableKind:
		return writtenEntries(n, secrets)
	case arrayKind:
		return n.writtenList(secrets)
	case stringKind:
		return n.text
	case integerKind:
		value, _ = n.asInteger()
	case floatKind:
		value, _ = n.asFloat()
	case boolKind:
		value, _ = n.asBool()
	}
	return value
}

// writtenList returns the items of an array: those of a valid config are all strings or all numbers.
func (n *node) writtenList(secrets []string) any {
	texts, numbers := []string{}, []int64(nil)
	for _, item := range n.children {
		switch value := item.writtenValue(secrets).(type) {
		case string:
			if item.holdsSecret(secrets) {
				value = mask
			}
			texts = append(texts, value)
		case int64:
			numbers = append(numbers, value)
		}
	}
	if numbers != nil {
		return numbers
	}
	return texts
}

// onlyReferencePattern matches a value, or a URL's password, that is nothing but ${NAME}.
var onlyReferencePattern = LazyRegexp(`^\$\{[A-Za-z_][A-Za-z0-9_]*(:\?[^}]*|:-(unset)?)?\}$`)

// onlyURLPassword returns the password in the URL that n is, if that is the only secret in it.
func (n *node) onlyURLPassword(secrets []string) string {
	found := urlSecrets(n.text) // as written, and decoded
	if n.isSecret || len(found) == 0 {
		return ""
	}
	rest := *n
	rest.text = strings.ReplaceAll(n.text, ":"+found[0]+"@", ":${X}@")
	if rest.holdsSecret(secrets) {
		return ""
	}
	return found[0]
}

// holdsSecret reports whether a string as written has a secret in it.
func (n *node) holdsSecret(secrets []string) bool {
	isReference := onlyReferencePattern().MatchString
	switch {
	case n.kind != stringKind || n.text == "" || isReference(n.text):
		return false
	case n.isSecret:
		return true
	case slices.ContainsFunc(urlSecrets(n.text), func(password string) bool { return !isReference(password) }):
		return true
	}
	return slices.ContainsFunc(secrets, func(secret string) bool {
		return len(secret) >= minSecretLength && strings.Contains(n.text, secret) && !isReference(secret)
	})
}
