package project

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// tableReader reads a table of a config by the fields that it may have.
type tableReader struct {
	*report       // nil: errors are ignored, because another reader reports them
	fields        []field
	outer         []string        // the file's top-level keys, for messages about one that is in this table by mistake
	isDefaults    bool            // the table is [defaults], for services of every technology
	given         map[string]bool // the keys seen, as "connection.host"
	suggestedKeys map[string]bool // a message about another key names them: that they are missing is not said again
	isUser        bool            // the table is the user's own config
	isNested      bool            // the table holds a service of its own: what it lacks is not said

	// What decides which keys a service has; empty: unknown, and every key may be right. It is known before anything else is
	// read, because keys may stand in any order.
	technology, check string
}

func newTableReader(r *report, fields []field) *tableReader {
	return &tableReader{report: r, fields: fields, given: map[string]bool{}, suggestedKeys: map[string]bool{}}
}

// readTable reads the table n, which may be nil.
func (r *tableReader) readTable(n *node) {
	if n != nil && n.kind == tableKind { // anything else is reported where the table is
		r.readFields(n, r.fields, "")
	}
}

// readSilently reads the table n without reporting errors: those of [defaults] are reported once, not for each service.
func (r tableReader) readSilently(n *node) {
	r.report = nil
	r.readTable(n)
}

// readTypes finds the technology and the type of health check that the service's table n gives, if it gives any. What is wrong with them
// is reported by readTable.
func (r *tableReader) readTypes(n *node, o Options) {
	if m := n.member(technologyKey); m != nil && !m.hasError {
		r.technology, _ = oneOf(technologyKey, o.technologyNames())(m)
	}
	if m := n.member(healthCheckKey, "type"); m != nil && !m.hasError {
		r.check, _ = oneOf("type", o.checkNames())(m)
	}
}

func (r *tableReader) readFields(n *node, fields []field, prefix string) {
	kind := r.tableKind(prefix)
	for _, m := range n.children {
		f, known := findField(fields, m.name, kind.value)
		switch {
		case !known:
			r.reportKey(m, "unknown key%s", r.unknownKeyAdvice(m, fields, prefix, kind.value))
		case !f.appliesTo(kind.value):
			r.reportKey(m, "only valid for %s %s; %s is %s%s", kind.noun, joinAlternatives(f.types), kind.subject, kind.value, r.misplacedKeyAdvice(m, f, fields, prefix, kind.value))
		case r.isDefaults && f.perService:
			r.reportKey(m, "not allowed in [defaults]; set it in each service")
		default:
			r.given[prefix+m.name] = true
			if r.isDefaults && f.read != nil {
				f.read = func(m *node) error { return readAny(fields, m) }
			}
			r.readField(m, f, prefix+m.name+".")
		}
	}
}

func (r *tableReader) readField(n *node, f field, prefix string) {
	switch {
	case n.hasError:
	case f.read != nil:
		r.reportError(n, f.read(n))
	case n.kind != tableKind:
		advice := r.tableKind(prefix).listFields(f.fields)
		if prefix == healthCheckKey+"." && n.kind == stringKind && isCheckName(n.text, f.fields) {
			advice = fmt.Sprintf("; write health_check = { type = %q }", n.text)
		}
		switch prefix {
		case healthCheckKey + ".":
			advice = cmp.Or(n.healthCheckAdvice(), advice)
		case "restart_policy.":
			advice = cmp.Or(n.restartPolicyAdvice(), advice)
		}
		if hostKey := map[string]string{"tcp": "remote_host", "ssh": "host"}[r.technology]; prefix == connectionKey+"." && n.kind == stringKind && hostKey != "" {
			r.suggestedKeys[prefix+hostKey] = true
			advice = cmp.Or(n.hostTableAdvice(hostKey), advice)
		}
		r.reportError(n, fmt.Errorf("%w%s", n.typeError("a table"), advice))
	default:
		r.readFields(n, f.fields, prefix)
	}
}

// serviceKind is what decides which keys a table of a service has.
type serviceKind struct{ noun, subject, value string }

func (r *tableReader) tableKind(prefix string) serviceKind {
	if prefix == healthCheckKey+"." {
		return serviceKind{"health check", "this one", r.check}
	}
	return serviceKind{"technology", "this service", r.technology}
}

// unknownKeyAdvice is the end of the message about an unknown key, empty where nothing is likely to be meant.
func (r *tableReader) unknownKeyAdvice(n *node, fields []field, prefix, technology string) string {
	if isTop := r.outer == nil && prefix == ""; r.isUser && isTop && slices.Contains(topLevelNames, n.name) {
		return "; it is a setting of a project, not of yours: write it in " + ConfigName
	} else if advice := foreignTopLevelAdvice(n); isTop && !r.isUser && advice != "" {
		return advice
	}
	if advice, meant := mistakenKeyAdvice(n, prefix, technology); advice != "" {
		for _, key := range meant {
			r.suggestedKeys[key] = true
		}
		return advice
	}
	if r.outer == nil && prefix == "" && isTableArray(n) {
		return topLevelAdvice(n)
	}
	if suggestion := r.suggestAlias(fields, n, prefix, technology); suggestion != "" {
		return suggestion
	}
	if advice := r.innerKeyAdvice(fields, n, prefix, technology); advice != "" {
		return advice
	}
	suggestion := ""
	if nearest := NearestName(n.name, fieldNames(fields, technology)); nearest != "" {
		suggestion = r.suggest(prefix, nearest)
	} else {
		isSimilar := func(alias string) bool { return NearestName(n.name, []string{alias}) != "" }
		suggestion = r.suggestByAlias(fields, n, prefix, technology, isSimilar)
	}
	isTopLevel := prefix == "" && slices.Contains(r.outer, n.name)
	switch {
	case r.isUser && prefix == "" && suggestion == "":
		return "; known keys: " + strings.Join(fieldNames(fields, ""), ", ")
	case r.outer == nil && prefix == "" && suggestion == "":
		return topLevelAdvice(n)
	case prefix != "" && technology != "" && r.hasField(n.name):
		r.suggestedKeys[n.name] = true
		return "; it is a key of the service itself, not of this table"
	case suggestion != "":
		return suggestion
	case isTopLevel && n.kind == tableKind:
		return fmt.Sprintf("; write it as [%s]", n.name)
	case isTopLevel:
		return "; it applies to the whole file: move it above the first [table]"
	case r.outer != nil && !r.isDefaults && prefix == "" && n.kind == tableKind:
		r.isNested = true
		return fmt.Sprintf("; a service name cannot contain a dot: write [services.%s-%s]", n.parent.name, n.name)
	case prefix != "":
		return r.tableKind(prefix).listFields(fields)
	}
	return ""
}

// hasField reports whether the service's own table may have a key.
func (r *tableReader) hasField(name string) bool {
	f, ok := findField(r.fields, name, r.technology)
	return ok && f.appliesTo(r.technology)
}

// listFields returns the end of a message: all keys of a table, if it is known which these are.
func (k serviceKind) listFields(fields []field) string {
	if k.value == "" {
		return ""
	}
	names := fieldNames(fields, k.value)
	if len(names) == 0 {
		return fmt.Sprintf("; %s %q has no keys here", k.noun, k.value)
	}
	return "; known keys: " + strings.Join(names, ", ")
}

// suggestAlias returns the end of a message about a key that is another name for one that the technology has.
func (r *tableReader) suggestAlias(fields []field, n *node, prefix, technology string) string {
	return r.suggestByAlias(fields, n, prefix, technology, func(alias string) bool { return plainName(alias) == plainName(n.name) })
}

// suggestByAlias is suggestAlias for the other names that are like the key.
func (r *tableReader) suggestByAlias(fields []field, n *node, prefix, technology string, isLike func(alias string) bool) string {
	for _, f := range fields {
		switch {
		case !f.appliesTo(technology) || !slices.ContainsFunc(f.aliases, isLike):
		case n.parent.member(f.name) != nil:
			return r.givenKeyAdvice(n, f, fields, technology)
		default:
			return r.suggest(prefix, f.name)
		}
	}
	return ""
}

// plainName is a key without what distinguishes the notations HostName, hostname, host_name and host-name.
func plainName(key string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(key))
}

// suggest returns the end of a message about a key that is probably meant as another one.
func (r *tableReader) suggest(prefix, name string) string {
	r.suggestedKeys[prefix+name] = true
	return didYouMean(name)
}

// innerKeyAdvice is for a key that belongs into one of the tables beside it.
func (r *tableReader) innerKeyAdvice(fields []field, n *node, prefix, technology string) string {
	for _, f := range fields {
		name := innerName(f.fields, n.name, technology)
		if name == "" {
			continue
		}
		key := f.name + "." + name
		r.suggestedKeys[prefix+key] = true
		if n.parent.member(f.name) != nil {
			return fmt.Sprintf("; move it into the table %s%s", f.name, renamed(n.name, name))
		}
		return didYouMean(key)
	}
	return ""
}

// innerName returns the name of the field that is meant by a key: its own, or another one; empty if there is none.
func innerName(fields []field, name, technology string) string {
	if f, ok := findField(fields, name, technology); ok && f.appliesTo(technology) {
		return name
	}
	for _, f := range fields {
		if f.appliesTo(technology) && slices.ContainsFunc(f.aliases, func(alias string) bool { return plainName(alias) == plainName(name) }) {
			return f.name
		}
	}
	return ""
}

// renamed ends the message about a key that has another name where it belongs.
func renamed(from, to string) string {
	if from == to {
		return ""
	}
	return ", as " + to
}

// reportMissing reports the required keys that have not been given, and those that cannot be used together.
func (r *tableReader) reportMissing(n *node, fields []field, prefix string) {
	if r.isNested {
		return
	}
	kind := r.tableKind(prefix)
	for _, f := range fields {
		if f.types != nil && kind.value == "" || !f.appliesTo(kind.value) {
			continue
		}
		isGiven := r.given[prefix+f.name]
		if f.required && !isGiven && !r.suggestedKeys[prefix+f.name] && (f.alternative == "" || !r.given[prefix+f.alternative]) {
			r.reportKey(n, "missing %q%s", prefix+f.name, f.example)
		}
		for _, other := range f.conflicts {
			if isGiven && r.given[prefix+other] {
				r.reportKey(n, "%q and %q cannot be used together", prefix+f.name, prefix+other)
			}
		}
		r.reportMissing(n, f.fields, prefix+f.name+".")
	}
}
