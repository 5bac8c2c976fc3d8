package project

import (
	"errors"
	"strings"
)

var (
	errNUL        = errors.New("must not contain a NUL byte")
	errNoServices = errors.New("must not refer to a service: local_port and local_address are resolved before any service")
)

// noServices is what references to services mean before it is known where they listen.
func noServices(*reference) (string, error) { return "", errNoServices }

// interpolateAll resolves every string of the file but those of [env], which each client resolves for itself.
func (p *parsing) interpolateAll() {
	for _, name := range p.root.names {
		if name == "env" {
			p.envSecrets(p.root.members[name])
			continue
		}
		for n := range p.root.members[name].all() {
			p.interpolate(n, p.lookService)
		}
	}
}

// interpolate resolves the string n, once, and keeps the secrets that come with it. n may be nil.
func (p *parsing) interpolate(n *node, service func(*reference) (string, error)) {
	if n == nil || n.done || n.kind != stringKind {
		return
	}
	n.done = true
	t, err := parseTemplate(n.text)
	if err == nil {
		p.warnArgument(n, t)
		n.text, err = t.resolve(scope{variable: p.variable, service: service})
	}
	if err == nil && strings.Contains(n.text, "\x00") {
		err = errNUL
	}
	if err != nil {
		n.bad, n.text = true, ""
		p.value(n, "%v", err)
		return
	}
	p.secretsOf(n.name, n.text)
}

// variable looks a variable up, in the environment and then in .env.
func (p *parsing) variable(name string) (string, bool) {
	value, ok := p.lookEnvironment(name)
	if !ok {
		value, ok = p.dotEnv.values[name]
	}
	if ok && secretName(name) {
		p.keepSecret(value)
	}
	return value, ok
}

func (p *parsing) lookEnvironment(name string) (string, bool) {
	if p.options.Getenv == nil {
		return "", false
	}
	return p.options.Getenv(name)
}

// secretsOf keeps what is secret about a value.
func (p *parsing) secretsOf(name, value string) {
	if secretName(name) {
		p.keepSecret(value)
	}
	for _, secret := range urlSecrets(value) {
		p.keepSecret(secret)
	}
}

// envSecrets keeps the secrets that [env] will come to hold, as far as they can be known here.
func (p *parsing) envSecrets(table *node) {
	for n := range table.all() {
		t, err := parseTemplate(n.text)
		if n.kind != stringKind || err != nil {
			continue
		}
		if value, err := t.resolve(scope{variable: p.variable, service: p.lookService}); err == nil {
			p.secretsOf(n.name, value)
		}
	}
}

var commandArgument = lazily(`^services\..*\.command\[\d+\]$`)

// warnArgument warns of a secret on its way into a process's arguments, which everyone on the machine can read.
func (p *parsing) warnArgument(n *node, t template) {
	if !commandArgument().MatchString(n.path()) {
		return
	}
	for ref := range t.references() {
		if _, secret := p.dotEnv.values[ref.variable]; !secret || ref.variable == "" {
			continue
		}
		if _, set := p.lookEnvironment(ref.variable); !set {
			p.warnings.value(n, "%s comes from %s, and other users can read the arguments of a process; let the command read %s from its environment instead",
				ref.variable, EnvName, ref.variable)
		}
	}
}
