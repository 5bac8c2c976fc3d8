package project

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// into is the reader of a key that another package knows, which puts its value into the settings.
func (k Key) into(settings func(*Service) *Settings) reader {
	return func(s *Service, n *node) error {
		at := settings(s)
		value, err := k.value(n, *at)
		broken := slices.ContainsFunc(n.items, func(item *node) bool { return item.bad }) // which is reported
		if err == nil && k.Valid != nil && !broken {
			err = k.Valid(value)
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

func ofCheck(s *Service) *Settings      { return &s.HealthCheck.Settings }
func ofConnection(s *Service) *Settings { return &s.Connection.Settings }

// value is the node's, of the Go type of the key. Before are the settings so far.
func (k Key) value(n *node, before Settings) (any, error) {
	var scratch Service // the readers of the other keys, put to use for these
	switch k.Is {
	case Number:
		var i int
		err := count(0, func(*Service) *int { return &i })(&scratch, n)
		return i, err
	case Flag:
		var b bool
		err := boolean(func(*Service) *bool { return &b })(&scratch, n)
		return b, err
	case Texts:
		return n.arguments()
	case Table:
		if k.Entry != nil {
			return n.entries(k.Entry, before.Table(k.Name))
		}
		return n.texts()
	case Codes:
		return n.codes()
	case Port:
		return readPort(n)
	}
	var text string
	err := k.text(&text)(&scratch, n)
	return text, err
}

// text is the reader of a key whose value is a string.
func (k Key) text(into *string) reader {
	at := func(*Service) *string { return into }
	switch k.Is {
	case File:
		return file(at)
	case Argument:
		return argument(at)
	case Word:
		return word(at)
	case Expression:
		return expression(at)
	}
	if k.Values != nil {
		return choice(at, k.Values)
	}
	return text(at)
}

// entries reads a table whose entries are put over those before.
func (n *node) entries(entry func(name string, value any) (string, error), before map[string]string) (map[string]string, error) {
	if n.kind != tableKind {
		return nil, n.want("a table")
	}
	values := map[string]string{}
	maps.Copy(values, before)
	var bad badItems
	for _, name := range n.names {
		value, err := n.members[name].scalar()
		if err == nil {
			values[name], err = entry(name, value)
		}
		bad = bad.with(n.members[name], err)
	}
	return values, bad.err()
}

// scalar reads a string, a whole number or a truth value.
func (n *node) scalar() (any, error) {
	switch n.kind {
	case integerKind:
		return n.integer()
	case boolKind:
		return n.text == "true", nil
	}
	return n.string()
}

// arguments reads an array of strings. An empty one among them is fine, the first is not.
func (n *node) arguments() ([]string, error) {
	switch {
	case n.kind != arrayKind:
		return nil, n.want(wantStrings)
	case len(n.items) == 0:
		return nil, errors.New("must not be empty")
	}
	var values []string
	var bad badItems
	for i, item := range n.items {
		if item.kind != stringKind || i == 0 {
			_, err := item.string()
			bad = bad.with(item, err)
		}
		values = append(values, item.text)
	}
	return values, bad.err()
}

// texts reads a table of strings.
func (n *node) texts() (map[string]string, error) {
	if n.kind != tableKind {
		return nil, n.want("a table of strings")
	}
	values := map[string]string{}
	var bad badItems
	for _, name := range n.names {
		value, err := n.members[name].string()
		bad = bad.with(n.members[name], err)
		values[name] = value
	}
	return values, bad.err()
}

// codes reads a number or an array of numbers.
func (n *node) codes() ([]int, error) {
	items := []*node{n}
	if n.kind == arrayKind {
		items = n.items
	}
	var values []int
	var bad badItems
	for _, item := range items {
		i, err := item.integer()
		if err == nil && (i < 0 || i > 1<<30) {
			err = fmt.Errorf("%d is out of range", i)
		}
		bad = bad.with(item, err)
		values = append(values, int(i))
	}
	return values, bad.err()
}

// settings fills in what the keys of a service's type of health check, and of its technology, are when they are not
// given, and has the technology judge them together.
func (p *parsing) settings(s *Service, given Given) {
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

// hideSettings keeps what the keys of other packages hold in secret, before any message can show it. What is secret for
// one type is for all: the type itself may be what is wrong.
func (p *parsing) hideSettings() {
	for _, n := range append(p.serviceNodes(), p.root.member("defaults")) {
		for _, check := range p.options.Checks {
			p.hide(n.member(healthCheckKey), check.Keys)
		}
		for _, technology := range p.options.Technologies {
			p.hide(n, topKeysOf(technology))
			p.hide(n.member("connection"), connectionKeys(technology))
		}
	}
}

func (p *parsing) hide(table *node, keys []Key) {
	for _, key := range keys {
		if n := table.member(key.Name); key.Secret && n != nil {
			p.hideBelow(n, key)
		}
	}
}

func (p *parsing) hideBelow(n *node, key Key) {
	for m := range n.all() {
		if slices.ContainsFunc(key.Public, func(name string) bool { return strings.EqualFold(name, m.name) }) {
			continue
		}
		m.hide()
		if m.kind != stringKind {
			continue
		}
		p.keepSecret(m.text)
		if _, token, ok := strings.Cut(m.text, " "); ok && key.Is == Table {
			p.keepSecret(token) // of "Bearer TOKEN", as it may stand alone
		}
	}
}

// hide makes n a secret. Strings are masked wherever a line is quoted; other scalars only from now on.
func (n *node) hide() {
	if n.secret {
		return
	}
	n.secret = true
	switch n.kind {
	case integerKind, floatKind, boolKind, dateKind:
		s := span{start: n.at, end: n.at + len(n.text)}
		at, _ := slices.BinarySearchFunc(n.doc.spans, s, func(a, b span) int { return a.start - b.start })
		n.doc.spans = slices.Insert(n.doc.spans, at, s)
	}
}
