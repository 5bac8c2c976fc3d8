package project

import (
	"errors"
	"strings"
)

var (
	errNUL        = errors.New("must not contain a NUL byte")
	errNoServices = errors.New("must not refer to a service: local_port and local_address are resolved before any service")
)

// rejectServices is the resolver of services while their addresses are not known yet: every reference is an error.
func rejectServices(*reference) (string, error) { return "", errNoServices }

// interpolateAll resolves every string of the file except those of [env], which each client resolves for itself.
func (p *parser) interpolateAll() {
	for _, top := range p.root.children {
		if top.name == "env" {
			p.addEnvSecrets(top)
			continue
		}
		for n := range top.descendants() {
			p.interpolate(n, p.scope.lookupService)
		}
	}
}

// interpolate resolves the string n, once, and keeps the secrets that come with it. n may be nil.
func (p *parser) interpolate(n *node, service func(*reference) (string, error)) {
	if n == nil || n.isInterpolated || n.kind != stringKind {
		return
	}
	n.isInterpolated = true
	p.adviseUnbraced(n)
	t, err := parseTemplate(n.text)
	if err == nil {
		p.checkExposure(n, t)
		for ref := range t.references() {
			if ref.variable != "" {
				p.project.Mentioned = append(p.project.Mentioned, ref.variable)
				n.variables = append(n.variables, ref.variable)
			}
		}
		n.text, err = t.resolve(resolver{variable: p.lookupVariable, service: service})
	}
	if err == nil && strings.Contains(n.text, "\x00") {
		err = errNUL
	}
	if err != nil {
		n.hasError, n.text = true, ""
		p.reportUnresolved(n, err)
		return
	}
	p.addSecretsOf(n.name, n.text)
}

// lookupVariable looks a variable up, and keeps its value if that is a secret.
func (p *parser) lookupVariable(name string) (string, bool) {
	value, ok := p.scope.lookupVariable(name)
	if ok && isSecretName(name) {
		p.addSecret(value)
	}
	return value, ok
}

// addSecretsOf adds the secrets that a value of this name holds.
func (p *parser) addSecretsOf(name, value string) {
	if isSecretName(name) {
		p.addSecret(value)
	}
	for _, secret := range urlSecrets(value) {
		p.addSecret(secret)
	}
}

// addEnvSecrets adds the secrets in [env], as far as its values can be resolved here.
func (p *parser) addEnvSecrets(table *node) {
	for n := range table.descendants() {
		t, err := parseTemplate(n.text)
		if n.kind != stringKind || err != nil {
			continue
		}
		if value, err := t.resolve(resolver{variable: p.lookupVariable, service: p.scope.lookupService}); err == nil {
			p.addSecretsOf(n.name, value)
		}
	}
}
