package project

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// serviceReader fills a service from tables of the file: [defaults] first, then its own.
type serviceReader struct {
	*report  // nil: errors are ignored, because another reader reports them
	service  *Service
	fields   []field
	defaults bool            // the table is [defaults], for services of every technology
	given    map[string]bool // the keys seen, as "connection.host"

	// What decides which keys there are; empty: unknown, and every key may be right. It is known before anything else is
	// read, because keys may stand in any order.
	technology, check string
}

// readTypes finds the technology and the type of health check that n gives, if it gives any. What is wrong with them is
// reported by apply.
func (a *serviceReader) readTypes(n *node) {
	var s Service
	if t := n.member("technology"); t != nil && !t.hasError {
		_ = a.readPath(&s, t, "technology")
		a.technology = s.Technology
	}
	if t := n.member(healthCheckKey, "type"); t != nil && !t.hasError {
		_ = a.readPath(&s, t, healthCheckKey, "type")
		a.check = s.HealthCheck.Type
	}
	a.service.Technology, a.service.HealthCheck.Type = a.technology, a.check
}

// readPath reads n as the field at a path of names.
func (a *serviceReader) readPath(s *Service, n *node, names ...string) error {
	fields := a.fields
	var f field
	for _, name := range names {
		f, _ = findField(fields, name, "")
		fields = f.fields
	}
	return f.read(s, n)
}

// readSilently reads the table n without reporting errors: those of [defaults] are reported once, not for each service.
func (a *serviceReader) readSilently(n *node) {
	silent := *a
	silent.report = nil
	silent.given = a.givenKeys()
	silent.readTable(n)
	a.service.Technology, a.service.HealthCheck.Type = a.technology, a.check
}

// readTable reads the table n.
func (a *serviceReader) readTable(n *node) {
	if n == nil || n.kind != tableKind {
		return // reported where the table is
	}
	a.readFields(n, a.fields, "")
}

func (a *serviceReader) givenKeys() map[string]bool {
	if a.given == nil {
		a.given = map[string]bool{}
	}
	return a.given
}

func (a *serviceReader) readFields(n *node, fields []field, prefix string) {
	for _, name := range n.names {
		m := n.members[name]
		axis := a.tableType(prefix)
		if a.defaults {
			axis.value = ""
		}
		f, known := findField(fields, name, axis.value)
		switch {
		case !known:
			a.reportUnexpectedKey(m, "unknown key%s", a.unknownKeyAdvice(m, fields, prefix, axis.value))
		case !f.appliesTo(axis.value):
			a.reportUnexpectedKey(m, "only valid for %s %s; %s is %s", axis.noun, joinAlternatives(f.types), axis.this, axis.value)
		case a.defaults && f.perService:
			a.reportUnexpectedKey(m, "not allowed in [defaults]; set it in each service")
		default:
			if a.defaults && f.read != nil {
				f.read = anyReader(fields, name)
			}
			a.givenKeys()[prefix+name] = true
			a.readField(m, f, prefix+name+".")
		}
	}
}

// unknownKeyAdvice is the end of the message about an unknown key, empty where nothing is likely to be meant.
func (a *serviceReader) unknownKeyAdvice(n *node, fields []field, prefix, technology string) string {
	meant := suggestKey(n.name, fields, technology)
	isTopLevel := prefix == "" && slices.Contains(topLevelKeys, n.name)
	switch {
	case meant != "":
		return meant
	case isTopLevel && n.kind == tableKind:
		return fmt.Sprintf("; write it as [%s]", n.name)
	case isTopLevel:
		return "; it applies to the whole file: move it above the first [table]"
	case prefix != "" && technology != "":
		return listKnownKeys(fields, technology)
	}
	return ""
}

// tableType is what decides which keys a table has.
type tableType struct{ noun, this, value string }

func (a *serviceReader) tableType(prefix string) tableType {
	if prefix == healthCheckKey+"." {
		return tableType{"health check", "this one", a.check}
	}
	return tableType{"technology", "this service", a.technology}
}

func (a *serviceReader) readField(n *node, f field, prefix string) {
	switch {
	case n.hasError:
	case f.fields == nil:
		a.reportInvalidValue(n, f.read(a.service, n))
	case n.kind != tableKind:
		a.reportInvalidValue(n, n.typeError("a table"))
	default:
		a.readFields(n, f.fields, prefix)
	}
}

// reportUnexpectedKey reports a key that should not be there.
func (a *serviceReader) reportUnexpectedKey(n *node, format string, args ...any) {
	if a.report != nil {
		a.reportKey(n, format, args...)
	}
}

// reportInvalidValue reports a value.
func (a *serviceReader) reportInvalidValue(n *node, err error) {
	if a.report == nil || err == nil {
		return
	}
	items, ok := errors.AsType[itemErrors](err)
	if !ok {
		items = itemErrors{{n, err}}
	}
	for _, item := range items {
		if !item.node.hasError {
			a.reportValue(item.node, "%v", item.err)
		}
	}
}

// reportMissing reports the required keys that neither n nor the defaults give.
func (a *serviceReader) reportMissing(n *node) {
	a.reportMissingIn(n, a.fields, "")
}

func (a *serviceReader) reportMissingIn(n *node, fields []field, prefix string) {
	for _, f := range fields {
		if value := a.tableType(prefix).value; f.types != nil && value == "" || !f.appliesTo(value) {
			continue
		}
		given := a.given[prefix+f.name]
		if f.required && !given && (f.alternative == "" || !a.given[prefix+f.alternative]) {
			a.reportKey(n, "missing %q%s", prefix+f.name, f.missingAdvice())
		}
		for _, other := range f.conflicts {
			if given && a.given[prefix+other] {
				a.reportKey(n, "%q and %q cannot be used together", prefix+f.name, prefix+other)
			}
		}
		a.reportMissingIn(n, f.fields, prefix+f.name+".")
	}
}

// missingAdvice says what the value of a missing key looks like; empty where the name says it.
func (f field) missingAdvice() string {
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
