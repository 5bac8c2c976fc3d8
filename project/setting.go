package project

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// into is the reader of a key that another package knows, which puts its value into the settings.
func (k Key) into(settings func(*Service) *Settings) reader {
	return func(s *Service, n *node) error {
		value, err := k.value(n)
		if err == nil && k.Valid != nil {
			err = k.Valid(value)
		}
		if err != nil {
			return err
		}
		at := settings(s)
		if *at == nil {
			*at = Settings{}
		}
		(*at)[k.Name] = value
		return nil
	}
}

func ofCheck(s *Service) *Settings      { return &s.HealthCheck.Settings }
func ofConnection(s *Service) *Settings { return &s.Connection.Settings }

// value is the node's, of the Go type of the key.
func (k Key) value(n *node) (any, error) {
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
		return n.texts()
	case File:
		var path string
		err := file(func(*Service) *string { return &path })(&scratch, n)
		return path, err
	case Codes:
		return n.codes()
	}
	return n.string()
}

// arguments reads an array of strings. An empty one among them is fine, the first is not.
func (n *node) arguments() ([]string, error) {
	switch {
	case n.kind != arrayKind:
		return nil, n.want("an array of strings")
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
// given.
func (p *parsing) settings(s *Service) {
	for _, check := range p.options.Checks {
		if check.Name == s.HealthCheck.Type {
			s.HealthCheck.Settings = withDefaults(s.HealthCheck.Settings, check.Keys)
		}
	}
	for _, technology := range p.options.Technologies {
		if technology.Name == s.Technology {
			s.Connection.Settings = withDefaults(s.Connection.Settings, technology.Keys)
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
			p.hide(n.member("connection"), technology.Keys)
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
