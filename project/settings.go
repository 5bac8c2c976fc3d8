package project

import (
	"slices"
	"strings"
)

// Settings are the values of the keys of one type, defaults filled in. Each is of the Go type of its KeyType; the
// methods return the zero value for a key that is not there.
type Settings map[string]any

// Text returns the value of a TypeText, TypeFile, TypeArgument, TypeWord or TypeRegexp.
func (s Settings) Text(name string) string { return settingValue[string](s, name) }

// Number returns the value of a TypeNumber or TypePort.
func (s Settings) Number(name string) int { return settingValue[int](s, name) }

// Bool returns the value of a TypeBool.
func (s Settings) Bool(name string) bool { return settingValue[bool](s, name) }

// TextList returns the value of a TypeTextList.
func (s Settings) TextList(name string) []string { return settingValue[[]string](s, name) }

// Table returns the value of a TypeTable.
func (s Settings) Table(name string) map[string]string {
	return settingValue[map[string]string](s, name)
}

// NumberList returns the value of a TypeNumberList.
func (s Settings) NumberList(name string) []int { return settingValue[[]int](s, name) }

func settingValue[T any](s Settings, name string) T {
	v, _ := s[name].(T)
	return v
}

func (s *Settings) set(name string, value any) {
	if *s == nil {
		*s = Settings{}
	}
	(*s)[name] = value
}

// setDefaults sets the keys that have not been given and have a default.
func (s *Settings) setDefaults(keys []Key) {
	for _, key := range keys {
		if _, isGiven := (*s)[key.Name]; !isGiven && key.Default != nil {
			s.set(key.Name, key.Default)
		}
	}
}

// completeSettings fills in the defaults of the keys of a service's type of health check and technology, and has the technology check its
// keys in combination.
func (p *parser) completeSettings(s *Service, given GivenKeys) {
	for _, check := range p.options.Checks {
		if check.Name == s.HealthCheck.Type {
			s.HealthCheck.Settings.setDefaults(check.Keys)
		}
	}
	for _, technology := range p.options.Technologies {
		if technology.Name == s.Technology {
			s.Connection.Settings.setDefaults(technology.Keys)
			if technology.Finish != nil {
				technology.Finish(s, given)
			}
		}
	}
}

// markSecretSettings marks the values of secret keys, before any message can show them. A key that is secret for
// one type is for all: the type itself may be what is wrong.
func (p *parser) markSecretSettings() {
	for _, n := range append(p.serviceNodes(), p.root.member("defaults")) {
		for _, check := range p.options.Checks {
			p.markSecretKeys(check.Keys, n.member(healthCheckKey), nil)
		}
		for _, technology := range p.options.Technologies {
			p.markSecretKeys(technology.Keys, n.member(connectionKey), n)
		}
	}
}

// markSecretKeys marks the values of secret keys in a table; those outside connection are in serviceTable.
func (p *parser) markSecretKeys(keys []Key, table, serviceTable *node) {
	for _, key := range keys {
		at := table
		if key.OutsideConnection {
			at = serviceTable
		}
		if n := at.member(key.Name); key.Secret && n != nil {
			p.markSecretTree(n, key)
		}
	}
}

func (p *parser) markSecretTree(n *node, key Key) {
	for m := range n.descendants() {
		if slices.ContainsFunc(key.PublicEntries, func(name string) bool { return strings.EqualFold(name, m.name) }) {
			continue
		}
		m.markSecret()
		if m.kind != stringKind {
			continue
		}
		p.addSecret(m.text)
		if _, token, ok := strings.Cut(m.text, " "); ok && key.Type == TypeTable {
			p.addSecret(token) // of "Bearer TOKEN", which may occur alone
		}
	}
}

// markSecret makes n a secret. Strings are masked wherever a line is quoted; other scalars only from now on.
func (n *node) markSecret() {
	if n.isSecret {
		return
	}
	n.isSecret = true
	switch n.kind {
	case integerKind, floatKind, boolKind, dateKind:
		s := span{start: n.valueOffset, end: n.valueOffset + len(n.text)}
		at, _ := slices.BinarySearchFunc(n.doc.spans, s, func(a, b span) int { return a.start - b.start })
		n.doc.spans = slices.Insert(n.doc.spans, at, s)
	}
}
