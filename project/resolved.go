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
	Origin   Origin // without a path: the value is a default
}

// Resolve returns the values of all keys: those of the file, those of each service, and [env]. Its error is that of Parse.
func (f *Files) Resolve(o Options) ([]ResolvedValue, error) {
	p := newParser(f, o)
	project, err := p.parse()
	if err != nil {
		return nil, err
	}
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

func (p *parser) envValues() (values []ResolvedValue) {
	scope := EnvScope{Lookup: p.options.Getenv, DotEnv: p.project.DotEnv, Services: make(map[string]Endpoint)}
	for _, s := range p.project.Services {
		scope.Services[s.Name] = Endpoint{Host: s.Host(), Port: s.LocalPort, IsOurs: true}
	}
	for _, entry := range p.project.Env {
		variable, err := scope.resolveEntry(entry, p.project.Env)
		value := p.resolvedValue("", joinKey("env", entry.Name), variable.Value, p.root.member("env", entry.Name))
		value.Origin.Variables = p.templateOrigins(entry.Template)
		if err != nil {
			value.Value, value.Problem, value.Origin.Variables = nil, fmt.Sprint(err), nil
		}
		values = append(values, value)
	}
	return values
}

// templateOrigins returns where the variables in a value of [env] come from, each once.
func (p *parser) templateOrigins(text string) (origins []VariableOrigin) {
	t, _ := parseTemplate(text)
	for ref := range t.references() {
		isSeen := slices.ContainsFunc(origins, func(o VariableOrigin) bool { return o.Name == ref.variable })
		if ref.variable != "" && !isSeen {
			origins = append(origins, p.variableOrigin(ref.variable))
		}
	}
	return origins
}
