package project

import (
	"fmt"
	"slices"
)

// ResolvedValue is the value of a key, and where it comes from.
type ResolvedValue struct {
	Service  string // empty: a key of the file
	Key      string // connection.host; in [env], env.NAME
	Value    any    // string, int, float64, bool, time.Duration, []string, []int or map[string]string; masked where it is secret
	IsSecret bool
	Problem  string // of an entry of [env]: why it has no value
	Origin   Origin
}

// Origin is where a value comes from.
type Origin struct {
	Path      string // of the file; empty: a default
	Line      int
	Variables []VariableOrigin // those in ${…}
}

// VariableOrigin is where a variable comes from.
type VariableOrigin struct {
	Name string
	Kind VariableKind
}

// VariableKind is the kind of place that a variable comes from.
type VariableKind string

// The places that variables come from. A variable that is unset has a default in the config.
const (
	VariableOfEnvironment VariableKind = "environment"
	VariableOfDotEnv      VariableKind = ".env"
	VariableUnset         VariableKind = "not set"
)

// Resolve returns the values of all keys: those of the file, those of each service, and [env]. Its error is that of Parse.
func (f *Files) Resolve(o Options) ([]ResolvedValue, error) {
	project, err := Parse(f, o)
	if err != nil {
		return nil, err
	}
	p := newParser(f, o)
	p.readDocuments()
	p.markSecretSettings()
	p.project = project
	values := []ResolvedValue{p.topLevelValue("linger", p.lingerValue())}
	if project.MetricsPort != 0 {
		values = append(values, p.topLevelValue("metrics_port", project.MetricsPort))
	}
	for _, s := range project.Services {
		values = append(values, p.serviceValues(s)...)
	}
	return append(values, p.envValues()...), nil
}

func (p *parser) lingerValue() any {
	if p.project.KeepConnections {
		return lingerConnections
	}
	return p.project.Linger
}

func (p *parser) topLevelValue(key string, value any) ResolvedValue {
	return p.resolvedValue("", key, value, p.root.member(key))
}

func (p *parser) serviceValues(s Service) (values []ResolvedValue) {
	table := p.root.member("services", s.Name)
	for _, entry := range p.options.valuesOf(s) {
		values = append(values, p.resolvedValue(s.Name, joinPath(entry.path), entry.value, p.givenNode(table, entry.path...)))
	}
	return values
}

// resolvedValue returns the value of a key. n is what the files give it; nil: nothing.
func (p *parser) resolvedValue(service, key string, value any, n *node) ResolvedValue {
	r := ResolvedValue{Service: service, Key: key, Value: value}
	if n == nil {
		return r
	}
	r.IsSecret = n.isSecret
	r.Value = p.maskValue(value, n)
	line, _ := n.doc.position(n.keyOffset)
	r.Origin = Origin{Path: n.doc.path, Line: line, Variables: p.variableOrigins(n)}
	return r
}

// maskValue returns a value without the secrets in it.
func (p *parser) maskValue(value any, n *node) any {
	switch value := value.(type) {
	case string:
		if n.isSecret {
			return mask
		}
		return Mask(value, p.project.Secrets)
	case []string:
		masked := slices.Clone(value)
		for i := range masked {
			masked[i] = Mask(masked[i], p.project.Secrets)
		}
		return masked
	case map[string]string:
		masked := make(map[string]string)
		for name, text := range value {
			masked[name] = Mask(text, p.project.Secrets)
			if m := n.member(name); m != nil && m.isSecret {
				masked[name] = mask
			}
		}
		return masked
	}
	return value
}

// variableOrigins returns the variables in the value of n, each once.
func (p *parser) variableOrigins(n *node) (origins []VariableOrigin) {
	for m := range n.descendants() {
		t, _ := parseTemplate(m.text)
		for ref := range t.references() {
			origin := VariableOrigin{ref.variable, p.variableKind(ref.variable)}
			if m.kind == stringKind && ref.variable != "" && !slices.Contains(origins, origin) {
				origins = append(origins, origin)
			}
		}
	}
	return origins
}

func (p *parser) variableKind(name string) VariableKind {
	_, isSet := p.options.Getenv(name)
	_, isInFile := p.project.DotEnv[name]
	switch {
	case isSet:
		return VariableOfEnvironment
	case isInFile:
		return VariableOfDotEnv
	}
	return VariableUnset
}

func (p *parser) envValues() (values []ResolvedValue) {
	scope := EnvScope{Lookup: p.options.Getenv, DotEnv: p.project.DotEnv, Services: make(map[string]Endpoint)}
	for _, s := range p.project.Services {
		scope.Services[s.Name] = Endpoint{Host: s.Host(), Port: s.LocalPort, IsOurs: true}
	}
	for _, entry := range p.project.Env {
		variable, err := scope.resolveEntry(entry, p.project.Env)
		value := p.resolvedValue("", joinKey("env", entry.Name), variable.Value, p.root.member("env", entry.Name))
		if err != nil {
			value.Value, value.Problem = nil, fmt.Sprint(err)
		}
		values = append(values, value)
	}
	return values
}
