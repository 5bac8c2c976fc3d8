package project

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// application puts tables of the file into a service, one over the other.
type application struct {
	*report  // nil: what is wrong is reported elsewhere
	service  *Service
	fields   []field
	defaults bool            // the table is [defaults], for services of every technology
	given    map[string]bool // the keys seen, as "connection.host"

	// What decides which keys there are; empty: unknown, and every key may be right. It is known before anything else is
	// read, because keys may stand in any order.
	technology, check string
}

// decide finds the technology and the type of health check that n gives, if it gives any. What is wrong with them is
// reported by apply.
func (a *application) decide(n *node) {
	var s Service
	if t := n.member("technology"); t != nil && !t.bad {
		_ = a.read(&s, t, "technology")
		a.technology = s.Technology
	}
	if t := n.member(healthCheckKey, "type"); t != nil && !t.bad {
		_ = a.read(&s, t, healthCheckKey, "type")
		a.check = s.HealthCheck.Type
	}
	a.service.Technology, a.service.HealthCheck.Type = a.technology, a.check
}

// read reads n as the field at a path of names.
func (a *application) read(s *Service, n *node, names ...string) error {
	fields := a.fields
	var f field
	for _, name := range names {
		f, _ = find(fields, name, "")
		fields = f.fields
	}
	return f.read(s, n)
}

// inherit applies what makes sense for the service and says nothing about the rest.
func (a *application) inherit(n *node) {
	silent := *a
	silent.report = nil
	silent.given = a.seen()
	silent.apply(n)
	a.service.Technology, a.service.HealthCheck.Type = a.technology, a.check
}

// apply reads the table n.
func (a *application) apply(n *node) {
	if n == nil || n.kind != tableKind {
		return // reported where the table is
	}
	a.table(n, a.fields, "")
}

func (a *application) seen() map[string]bool {
	if a.given == nil {
		a.given = map[string]bool{}
	}
	return a.given
}

func (a *application) table(n *node, fields []field, prefix string) {
	for _, name := range n.names {
		m := n.members[name]
		axis := a.axis(prefix)
		if a.defaults {
			axis.value = ""
		}
		f, known := find(fields, name, axis.value)
		switch {
		case !known:
			a.say(m, "unknown key%s", a.unknownKeyAdvice(m, fields, prefix, axis.value))
		case !f.suits(axis.value):
			a.say(m, "only valid for %s %s; %s is %s", axis.noun, oneOf(f.only), axis.this, axis.value)
		case a.defaults && f.own:
			a.say(m, "not allowed in [defaults]; set it in each service")
		default:
			if a.defaults && f.read != nil {
				f.read = readAny(fields, name)
			}
			a.seen()[prefix+name] = true
			a.field(m, f, prefix+name+".")
		}
	}
}

// unknownKeyAdvice is the end of the message about an unknown key, empty where nothing is likely to be meant.
func (a *application) unknownKeyAdvice(n *node, fields []field, prefix, technology string) string {
	meant := suggestion(n.name, fields, technology)
	isTopLevel := prefix == "" && slices.Contains(topKeys, n.name)
	switch {
	case meant != "":
		return meant
	case isTopLevel && n.kind == tableKind:
		return fmt.Sprintf("; write it as [%s]", n.name)
	case isTopLevel:
		return "; it applies to the whole file: move it above the first [table]"
	case prefix != "" && technology != "":
		return knownKeys(fields, technology)
	}
	return ""
}

// axis is what decides which keys a table has.
type axis struct{ noun, this, value string }

func (a *application) axis(prefix string) axis {
	if prefix == healthCheckKey+"." {
		return axis{"health check", "this one", a.check}
	}
	return axis{"technology", "this service", a.technology}
}

func (a *application) field(n *node, f field, prefix string) {
	switch {
	case n.bad:
	case f.fields == nil:
		a.wrong(n, f.read(a.service, n))
	case n.kind != tableKind:
		a.wrong(n, n.want("a table"))
	default:
		a.table(n, f.fields, prefix)
	}
}

// say reports a key that should not be there.
func (a *application) say(n *node, format string, args ...any) {
	if a.report != nil {
		a.key(n, format, args...)
	}
}

// wrong reports a value.
func (a *application) wrong(n *node, err error) {
	if a.report == nil || err == nil {
		return
	}
	items, ok := errors.AsType[badItems](err)
	if !ok {
		items = badItems{{n, err}}
	}
	for _, item := range items {
		if !item.node.bad {
			a.value(item.node, "%v", item.err)
		}
	}
}

// missing reports the required keys that neither n nor the defaults give.
func (a *application) missing(n *node) {
	a.missingOf(n, a.fields, "")
}

func (a *application) missingOf(n *node, fields []field, prefix string) {
	for _, f := range fields {
		if value := a.axis(prefix).value; f.only != nil && value == "" || !f.suits(value) {
			continue
		}
		given := a.given[prefix+f.name]
		if f.required && !given && (f.or == "" || !a.given[prefix+f.or]) {
			a.key(n, "missing %q%s", prefix+f.name, f.shown())
		}
		for _, other := range f.excludes {
			if given && a.given[prefix+other] {
				a.key(n, "%q and %q cannot be used together", prefix+f.name, prefix+other)
			}
		}
		a.missingOf(n, f.fields, prefix+f.name+".")
	}
}

// shown shows how the key is written, where that is not plain.
func (f field) shown() string {
	if f.example != "" {
		return f.example
	}
	if f.name == "local_port" {
		return `: must be a port number (1-65535) or "auto"`
	}
	if strings.HasSuffix(f.name, "_port") {
		return ": the port on the remote side"
	}
	return ""
}
