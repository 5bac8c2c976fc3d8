package project

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// reader returns a reader that stores the value of the key in the settings.
func (k Key) reader(settings func(*Service) *Settings) reader {
	return func(s *Service, n *node) error {
		at := settings(s)
		value, err := k.readValue(n, *at)
		broken := slices.ContainsFunc(n.items, func(item *node) bool { return item.hasError }) // which is reported
		if err == nil && k.Validate != nil && !broken {
			err = k.Validate(value)
		}
		if err != nil {
			return err
		}
		if *at == nil {
			*at = Settings{}
		}
		(*at)[k.Name] = value
		return nil
	}
}

func healthCheckSettings(s *Service) *Settings { return &s.HealthCheck.Settings }
func connectionSettings(s *Service) *Settings  { return &s.Connection.Settings }

// readValue returns the node's value in the Go type of the key. before holds the settings read so far.
func (k Key) readValue(n *node, before Settings) (any, error) {
	var scratch Service // for the readers of keys, which store into a service
	switch k.Type {
	case TypeNumber:
		var i int
		err := countReader(0, func(*Service) *int { return &i })(&scratch, n)
		return i, err
	case TypeBool:
		var b bool
		err := boolReader(func(*Service) *bool { return &b })(&scratch, n)
		return b, err
	case TypeTextList:
		return n.asArguments()
	case TypeTable:
		if k.ReadEntry != nil {
			return n.asEntries(k.ReadEntry, before.Table(k.Name))
		}
		return n.asTextTable()
	case TypeNumberList:
		return n.asNumberList()
	case TypePort:
		return readPort(n)
	}
	var text string
	err := k.textReader(&text)(&scratch, n)
	return text, err
}

// textReader returns the reader of a key whose value is a string.
func (k Key) textReader(into *string) reader {
	at := func(*Service) *string { return into }
	switch k.Type {
	case TypeFile:
		return fileReader(at)
	case TypeArgument:
		return argumentReader(at)
	case TypeWord:
		return wordReader(at)
	case TypeRegexp:
		return regexpReader(at)
	}
	if k.Values != nil {
		return choiceReader(at, k.Values)
	}
	return textReader(at)
}

// asEntries reads a table; its entries replace those of before.
func (n *node) asEntries(entry func(name string, value any) (string, error), before map[string]string) (map[string]string, error) {
	if n.kind != tableKind {
		return nil, n.typeError("a table")
	}
	values := map[string]string{}
	maps.Copy(values, before)
	var bad itemErrors
	for _, name := range n.names {
		value, err := n.members[name].asScalar()
		if err == nil {
			values[name], err = entry(name, value)
		}
		bad = bad.append(n.members[name], err)
	}
	return values, bad.errOrNil()
}

// asScalar reads a string, an integer or a boolean.
func (n *node) asScalar() (any, error) {
	switch n.kind {
	case integerKind:
		return n.asInteger()
	case boolKind:
		return n.text == "true", nil
	}
	return n.asString()
}

// asArguments reads an array of strings, of which the first must not be empty.
func (n *node) asArguments() ([]string, error) {
	switch {
	case n.kind != arrayKind:
		return nil, n.typeError(wantStrings)
	case len(n.items) == 0:
		return nil, errors.New("must not be empty")
	}
	var values []string
	var bad itemErrors
	for i, item := range n.items {
		if item.kind != stringKind || i == 0 {
			_, err := item.asString()
			bad = bad.append(item, err)
		}
		values = append(values, item.text)
	}
	return values, bad.errOrNil()
}

// asTextTable reads a table of strings.
func (n *node) asTextTable() (map[string]string, error) {
	if n.kind != tableKind {
		return nil, n.typeError("a table of strings")
	}
	values := map[string]string{}
	var bad itemErrors
	for _, name := range n.names {
		value, err := n.members[name].asString()
		bad = bad.append(n.members[name], err)
		values[name] = value
	}
	return values, bad.errOrNil()
}

// asNumberList reads a number or an array of numbers.
func (n *node) asNumberList() ([]int, error) {
	items := []*node{n}
	if n.kind == arrayKind {
		items = n.items
	}
	var values []int
	var bad itemErrors
	for _, item := range items {
		i, err := item.asInteger()
		if err == nil && (i < 0 || i > 1<<30) {
			err = fmt.Errorf("%d is out of range", i)
		}
		bad = bad.append(item, err)
		values = append(values, int(i))
	}
	return values, bad.errOrNil()
}

// completeSettings fills in what the keys of a service's type of health check, and of its technology, are when they are not
// given, and has the technology judge them together.
func (p *parser) completeSettings(s *Service, given GivenKeys) {
	for _, check := range p.options.Checks {
		if check.Name == s.HealthCheck.Type {
			s.HealthCheck.Settings = withDefaults(s.HealthCheck.Settings, check.Keys)
		}
	}
	for _, technology := range p.options.Technologies {
		if technology.Name == s.Technology {
			s.Connection.Settings = withDefaults(s.Connection.Settings, technology.Keys)
			if technology.Finish != nil {
				technology.Finish(s, given)
			}
		}
	}
}

func withDefaults(given Settings, keys []Key) Settings {
	for _, key := range keys {
		if _, ok := given[key.Name]; ok || key.Default == nil {
			continue
		}
		if given == nil {
			given = Settings{}
		}
		given[key.Name] = key.Default
	}
	return given
}

// markSecretSettings marks the values of secret keys, before any message can show them. A key that is secret for
// one type is for all: the type itself may be what is wrong.
func (p *parser) markSecretSettings() {
	for _, n := range append(p.serviceNodes(), p.root.member("defaults")) {
		for _, check := range p.options.Checks {
			p.markSecretKeys(n.member(healthCheckKey), check.Keys)
		}
		for _, technology := range p.options.Technologies {
			p.markSecretKeys(n, serviceKeys(technology))
			p.markSecretKeys(n.member("connection"), connectionKeys(technology))
		}
	}
}

func (p *parser) markSecretKeys(table *node, keys []Key) {
	for _, key := range keys {
		if n := table.member(key.Name); key.Secret && n != nil {
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
			p.addSecret(token) // of "Bearer TOKEN", as it may stand alone
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
