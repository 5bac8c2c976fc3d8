package project

import (
	"errors"
	"fmt"
	"maps"
)

// read is the reader of a key that another package knows.
func (k Key) read(s *Service, n *node) error {
	value, err := k.value(n)
	if err == nil && k.Valid != nil {
		err = k.Valid(value)
	}
	if err != nil {
		return err
	}
	if s.HealthCheck.Settings == nil {
		s.HealthCheck.Settings = Settings{}
	}
	s.HealthCheck.Settings[k.Name] = value
	return nil
}

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
		var l []string
		err := list(func(*Service) *[]string { return &l })(&scratch, n)
		if err == nil && len(l) == 0 {
			err = errors.New("must not be empty")
		}
		return l, err
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

// settings fills in what the keys of a service's type of health check are when they are not given, and keeps those that
// are secret.
func (p *parsing) settings(s *Service) {
	var keys []Key
	for _, check := range p.options.Checks {
		if check.Name == s.HealthCheck.Type {
			keys = check.Keys
		}
	}
	given := s.HealthCheck.Settings
	s.HealthCheck.Settings = nil
	for _, key := range keys {
		value, ok := given[key.Name]
		if !ok && key.Default != nil {
			value, ok = key.Default, true
		}
		if !ok {
			continue
		}
		if s.HealthCheck.Settings == nil {
			s.HealthCheck.Settings = Settings{}
		}
		s.HealthCheck.Settings[key.Name] = value
		if key.Secret {
			p.keepSecrets(value)
		}
	}
}

func (p *parsing) keepSecrets(value any) {
	switch value := value.(type) {
	case string:
		p.keepSecret(value)
	case []string:
		for _, text := range value {
			p.keepSecret(text)
		}
	case map[string]string:
		for text := range maps.Values(value) {
			p.keepSecret(text)
		}
	}
}
