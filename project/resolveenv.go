package project

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder/printable"
)

// EnvScope holds what the values of [env] are resolved from.
type EnvScope struct {
	Lookup   func(string) (string, bool) // the client's environment without the variables that localport exported; nil: empty
	DotEnv   map[string]string
	Services map[string]Endpoint
}

// Endpoint is the local address of one service.
type Endpoint struct {
	Host   string // numeric
	Port   int
	IsOurs bool // our listener has the port, not another program
}

func (e Endpoint) attribute(name string) string {
	switch name {
	case "host":
		return e.Host
	case "port":
		return strconv.Itoa(e.Port)
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
}

// Variable is an environment variable.
type Variable struct {
	Name  string
	Value string
	// ExtendsItself: the value is a list like PATH that has the variable's own previous value among its entries, as in PATH = "bin:${PATH}".
	ExtendsItself bool
}

// ResolvedEnv is the result of ResolveEnv.
type ResolvedEnv struct {
	Variables []Variable   // in the order of the entries
	Errors    []Diagnostic // the entries that could not be resolved; they show no value
}

// ResolveEnv resolves the entries of [env], each by itself: an entry cannot refer to another one. Those that refer to a service whose port
// another program has are left out; the service's own state says why.
func ResolveEnv(entries []EnvEntry, v EnvScope) ResolvedEnv {
	var r ResolvedEnv
	for _, entry := range entries {
		if t, _ := parseTemplate(entry.Template); v.hasForeignService(t) {
			continue
		}
		variable, err := v.resolveEntry(entry, entries)
		if err != nil {
			r.Errors = append(r.Errors, entry.diagnostic(err))
			continue
		}
		r.Variables = append(r.Variables, variable)
	}
	return r
}

// EnvAdvice returns warnings about what values of [env] may be intended to mean.
func EnvAdvice(entries []EnvEntry) (warnings []Diagnostic) {
	for _, entry := range entries {
		for _, message := range entry.Advice {
			warnings = append(warnings, Diagnostic{Path: entry.Path, Line: entry.Line, Col: entry.Col, Message: printable.EscapeLine(message)})
		}
	}
	return warnings
}

// resolveEntry resolves one of the entries of [env].
func (v EnvScope) resolveEntry(entry EnvEntry, entries []EnvEntry) (Variable, error) {
	in := resolver{variable: v.lookupVariable, service: v.lookupService}
	t, err := parseTemplate(entry.Template)
	value := ""
	if err == nil {
		value, err = t.resolve(in)
	}
	if err == nil && strings.Contains(value, "\x00") {
		err = errNUL
	}
	if err != nil {
		return Variable{}, v.explainMissing(err, entries)
	}
	return Variable{entry.Name, value, entry.extendsItself(t, in)}, nil
}

// extendsItself reports whether the entry, of which t is the template, has the previous value of its own variable between colons.
func (e EnvEntry) extendsItself(t template, in resolver) bool {
	isReference := func(ref *reference) bool { return ref.variable == e.Name }
	if !slices.ContainsFunc(slices.Collect(t.references()), isReference) {
		return false
	}
	const marker = "\x00" // which no value has
	lookup := in.variable
	in.variable = func(name string) (string, bool) {
		if name == e.Name {
			return marker, true
		}
		return lookup(name)
	}
	value, err := t.resolve(in)
	return err == nil && slices.Contains(strings.Split(value, ":"), marker)
}

func (e EnvEntry) diagnostic(err error) Diagnostic {
	message := fmt.Sprintf("%s: %v", joinKey("env", e.Name), err)
	return Diagnostic{Path: e.Path, Line: e.Line, Col: e.Col, Message: printable.EscapeLine(message)}
}

// hasForeignService reports whether t refers to a service whose port another program has.
func (v EnvScope) hasForeignService(t template) bool {
	for ref := range t.references() {
		if endpoint, known := v.Services[ref.service]; known && !endpoint.IsOurs {
			return true
		}
	}
	return false
}

func (v EnvScope) lookupVariable(name string) (string, bool) {
	if v.Lookup != nil {
		if value, ok := v.Lookup(name); ok {
			return value, true
		}
	}
	value, ok := v.DotEnv[name]
	return value, ok
}

func (v EnvScope) lookupService(ref *reference) (string, error) {
	endpoint, ok := v.Services[ref.service]
	if !ok {
		return "", unknownServiceError(ref.service, slices.Sorted(maps.Keys(v.Services)))
	}
	return endpoint.attribute(ref.attr), nil
}

// explainMissing adds what to do to the error about a missing variable that looks as if it were set by the config.
func (v EnvScope) explainMissing(err error, entries []EnvEntry) error {
	missing, ok := errors.AsType[*missingVariableError](err)
	if !ok {
		return err
	}
	for _, entry := range entries {
		if entry.Name == missing.name {
			return fmt.Errorf("%w; entries of [env] cannot refer to each other", err)
		}
	}
	for name := range v.Services {
		for _, attr := range []string{"host", "port"} {
			if missing.name == name {
				return fmt.Errorf("%w; for the service write ${%s.port}", err, name)
			}
			if missing.name == EnvPrefix(name)+"_"+strings.ToUpper(attr) {
				return fmt.Errorf("%w; use ${%s.%s}", err, name, attr)
			}
		}
	}
	return err
}
