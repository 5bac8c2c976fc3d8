package project

import (
	"cmp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// A quoted line shows the values of the keys below that hold no secret, and of what is meant as such a key; those of all other keys, and of [env],
// are masked. Numbers and booleans are shown unless the key has the name of a secret.

// maskScope is how much of a key's value a quoted line masks. If two keys share a name, the stricter scope applies.
type maskScope int

const (
	maskNothing   maskScope = iota
	maskArguments           // all items of an array but the first, the program
	maskValue
)

// maskScope returns how much of the key's value is masked.
func (k Key) maskScope() maskScope {
	switch {
	case k.Secret, k.Type == TypeTable, k.Name == "user":
		return maskValue
	case k.Type == TypeTextList:
		return maskArguments
	}
	return maskNothing
}

// publicForeignKeys are keys of other tools, without "_" and in lowercase, whose values say where something is or what it is called.
var publicForeignKeys = []string{
	"backend", "build", "containername", "cwd", "deployment", "domain", "dotenv", "envfile", "expose", "forward", "forwards", "image", "job", "kind", "networks", "pod", "port",
	"portforwards", "ports", "profile", "remote", "resource", "restart", "selector", "service", "statefulset", "svc", "upstream", "workdir", "workingdir",
	"startperiod", "stricthostkeychecking",
}

// secretWords are names near which a misspelled key is not shown.
var secretWords = []string{"password", "passwd", "passphrase", "pass", "pwd", "secret", "token", "credential", "credentials", "apikey", "auth", "key", "pin", "psk", "user", "username", "login"}

// publicKeys says how much is masked of the values of keys, by their plain names.
type publicKeys map[string]maskScope

// newPublicKeys returns the keys of fields at every depth.
func newPublicKeys(fields []field) publicKeys {
	keys := make(publicKeys)
	for _, name := range publicForeignKeys {
		keys[name] = maskNothing
	}
	keys.add(fields)
	return keys
}

func (keys publicKeys) add(fields []field) {
	for _, f := range fields {
		for _, name := range append([]string{f.name}, f.aliases...) {
			name = plainName(name)
			keys[name] = max(keys[name], f.maskScope)
			if name != plainName(f.name) && slices.Contains(secretWords, name) {
				keys[name] = maskValue
			}
		}
		keys.add(f.fields)
	}
}

// lookup returns how much is masked of the values of a key, which may be misspelled.
func (keys publicKeys) lookup(name string) maskScope {
	name = plainName(name)
	if found, ok := keys[name]; ok {
		return found
	}
	isNear := func(other string, distance int) bool { return levenshtein.Distance(name, other, nil) <= distance }
	if len(name) > 64 || slices.ContainsFunc(secretWords, func(word string) bool { return isNear(word, 2) }) {
		return maskValue
	}
	for other, found := range keys {
		if found == maskNothing && len(other) > 3 && isNear(other, 1) {
			return found
		}
	}
	return maskValue
}

// markPublic marks the values in the table n that a quoted line shows.
func (keys publicKeys) markPublic(n *node) {
	for _, m := range n.children {
		found := keys.lookup(m.name)
		switch {
		case m.isSecret, found == maskValue && !forwardPattern().MatchString(m.text):
		case m.kind == tableKind:
			keys.markPublic(m)
		default:
			m.markPublicValue(found)
		}
	}
}

// markPublicValue marks the string n, or the strings in the array n.
func (n *node) markPublicValue(scope maskScope) {
	switch {
	case n.kind == stringKind && scope != maskArguments:
		n.doc.markPublic(n)
	case n.kind == arrayKind && scope == maskArguments:
		for _, m := range n.children[:min(1, len(n.children))] {
			m.markPublicValue(maskNothing)
		}
	case n.kind == arrayKind:
		for _, m := range n.children {
			m.markPublicValue(scope)
		}
	}
}

func (d *document) markPublic(n *node) {
	if d.publicOffsets == nil {
		d.publicOffsets = make(map[int]bool)
	}
	d.publicOffsets[n.valueOffset] = true
}

// markPublicValues marks the values that quoted lines show. It costs too much to be done without a message to print.
func (p *parser) markPublicValues() {
	top := p.topLevelFields()
	keys := newPublicKeys(append(p.options.serviceFields(new(newService(""))), top...))
	for _, n := range p.root.children {
		name := cmp.Or(NearestName(n.name, fieldNames(top, "")), n.name)
		switch {
		case name == "env":
			markReferences(n)
		case name == "services" && n.kind == tableKind:
			for _, service := range n.children {
				if service.kind == tableKind {
					keys.markPublic(service)
				}
			}
		case name == "services":
			for _, service := range n.children {
				keys.markPublic(service)
			}
		case name == "defaults":
			keys.markPublic(n)
		case slices.Contains(topLevelNames, name):
			n.markPublicValue(maskNothing)
		}
	}
}

// markReferences marks the values in [env] that only say which variable they are.
func markReferences(table *node) {
	for _, n := range table.children {
		if isOnlyReferences(n) {
			n.doc.markPublic(n)
		}
	}
}

var (
	// passwordPattern matches USER:PASSWORD@ without a scheme.
	passwordPattern = LazyRegexp(`[^\s/:@"'<>]+:[^\s/@"'<>]+@`)
	queryPattern    = LazyRegexp(`\?[^\s"'<>]*[=&][^\s"'<>]*`) // of a URL
)

// maskPublic returns a string of the file, with its quotes, as a quoted line shows it.
func maskPublic(source string, secrets []string) string {
	if isSecretName(source) && !isReferenceOnly(source[1:max(1, len(source)-1)]) {
		return maskSpan([]byte(source))
	}
	return Mask(maskParts(source), secrets)
}

// maskParts masks the parts of a text that hold secrets wherever they stand: what identifies a user, and the query of a URL.
func maskParts(text string) string {
	if strings.Contains(text, "@") && !strings.Contains(text, "://") {
		text = passwordPattern().ReplaceAllString(text, mask+"@")
	}
	return queryPattern().ReplaceAllString(text, "?"+mask)
}
