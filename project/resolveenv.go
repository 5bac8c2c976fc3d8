package project

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// EnvScope is what a client knows when it resolves [env].
type EnvScope struct {
	Lookup   func(string) (string, bool) // its environment, with our own exports undone; nil: there is none
	DotEnv   map[string]string
	Services map[string]Endpoint
}

// Endpoint is what a client knows of one service.
type Endpoint struct {
	Host   string // numeric
	Port   int
	IsOurs bool // it is our listener that has the port
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

// Variable is a variable with its value.
type Variable struct {
	Name  string
	Value string
}

// OmittedEntry is an entry that is left out because it mentions a service whose port is not ours.
type OmittedEntry struct {
	Name    string
	Service string
}

// ResolvedEnv is what became of [env].
type ResolvedEnv struct {
	Variables []Variable // in the order of the entries
	Omitted   []OmittedEntry
	Errors    []Diagnostic // the entries that could not be resolved; they show no value
}

// ResolveEnv resolves the entries of [env]. Each is resolved by itself: what one sets is not seen by another.
func ResolveEnv(entries []EnvEntry, v EnvScope) ResolvedEnv {
	var r ResolvedEnv
	for _, entry := range entries {
		t, err := parseTemplate(entry.Template)
		if err == nil {
			if service := v.foreignService(t); service != "" {
				r.Omitted = append(r.Omitted, OmittedEntry{entry.Name, service})
				continue
			}
		}
		value := ""
		if err == nil {
			value, err = t.resolve(resolver{variable: v.lookupVariable, service: v.lookupService})
		}
		if err == nil && strings.Contains(value, "\x00") {
			err = errNUL
		}
		if err != nil {
			r.Errors = append(r.Errors, entry.diagnostic(v.explainMissing(err, entries)))
			continue
		}
		r.Variables = append(r.Variables, Variable{entry.Name, value})
	}
	return r
}

func (e EnvEntry) diagnostic(err error) Diagnostic {
	message := fmt.Sprintf("%s: %v", joinKey("env", e.Name), err)
	return Diagnostic{Path: e.Path, Line: e.Line, Col: e.Col, Message: escapeUnprintable(message)}
}

// foreignService is the first service that t mentions and whose port is somebody else's; empty if there is none.
func (v EnvScope) foreignService(t template) string {
	for ref := range t.references() {
		if endpoint, known := v.Services[ref.service]; known && !endpoint.IsOurs {
			return ref.service
		}
	}
	return ""
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
		return "", fmt.Errorf("unknown service %q", ref.service)
	}
	return endpoint.attribute(ref.attr), nil
}

// explainMissing adds what to do to a missing variable that the user has reason to believe is there.
func (v EnvScope) explainMissing(err error, entries []EnvEntry) error {
	lost, ok := errors.AsType[*missingVariableError](err)
	if !ok {
		return err
	}
	for _, entry := range entries {
		if entry.Name == lost.name {
			return fmt.Errorf("%w; entries of [env] cannot refer to each other", err)
		}
	}
	for name := range v.Services {
		for _, attr := range []string{"host", "port"} {
			if lost.name == EnvPrefix(name)+"_"+strings.ToUpper(attr) {
				return fmt.Errorf("%w; use ${%s.%s}", err, name, attr)
			}
		}
	}
	return err
}
