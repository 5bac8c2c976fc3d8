// Package kubeservices writes services of a Kubernetes cluster as services of a config.
package kubeservices

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/forwarder/kubectl/catalog"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// Candidate is a service of a config, and health checks that it may pass: which of them it does is known when it has been asked.
type Candidate struct {
	draft.Service
	Checks []draft.Table // the likeliest first; none: nothing better than tcp is known
}

// Convert makes a service of each port. Names are unique, and no two services have the same local port.
func Convert(services []catalog.Service, location session.Location, ports *convert.LocalPorts) []Candidate {
	names := draft.Names{}
	isRepeated := map[string]int{}
	for _, svc := range services {
		isRepeated[svc.Name]++
	}
	var candidates []Candidate
	for _, svc := range services {
		for _, port := range svc.Ports {
			name := svc.Name
			if isRepeated[svc.Name] > 1 {
				name += "-" + svc.Namespace
			}
			if len(svc.Ports) > 1 {
				name += "-" + cmp.Or(port.Name, fmt.Sprint(port.Number))
			}
			candidates = append(candidates, newCandidate(names.Add(name), svc, port, location.Context, ports))
		}
	}
	return candidates
}

func newCandidate(name string, svc catalog.Service, port catalog.Port, kubeContext string, ports *convert.LocalPorts) Candidate {
	c := Candidate{Service: draft.Service{Name: name}, Checks: likelyChecks(protocolOf(svc, port))}
	c.Set("technology", "kubectl")
	localPort, comment := ports.Choose(port.Number, name)
	c.Entries = append(c.Entries, draft.Entry{Key: "local_port", Value: localPort, Comment: comment})
	c.Set("remote_port", remotePort(port))
	connection := draft.Table{}
	connection.Set("resource_type", "service")
	connection.Set("resource_name", svc.Name)
	connection.Set("namespace", svc.Namespace)
	connection.Set("context", kubeContext)
	c.Set("connection", connection)
	return c
}

var portNamePattern = project.LazyRegexp(`^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$`)

// remotePort returns the port's name, which outlives a change of its number; its number if the name is none that a config accepts.
func remotePort(port catalog.Port) any {
	if portNamePattern().MatchString(port.Name) && strings.ContainsAny(port.Name, "abcdefghijklmnopqrstuvwxyz") {
		return port.Name
	}
	return port.Number
}

// protocolOf returns what a port speaks, as the port says itself, else what its number says or, if it is the only one, the service's name.
func protocolOf(svc catalog.Service, port catalog.Port) convert.Protocol {
	switch protocol := cmp.Or(convert.ProtocolOfName(port.AppProtocol), convert.ProtocolOfName(port.Name), convert.ProtocolOfPort(port.Number)); {
	case protocol != convert.Unknown:
		return protocol
	case len(svc.Ports) == 1:
		return convert.ProtocolOfName(svc.Name)
	}
	return convert.Unknown
}

// likelyChecks returns the health checks for a protocol that need no password, the likeliest first.
func likelyChecks(protocol convert.Protocol) []draft.Table {
	check := func(entries ...draft.Entry) draft.Table {
		return append(draft.Table{{Key: "type", Value: string(protocol)}}, entries...)
	}
	switch protocol {
	case convert.Unknown:
		return nil
	case convert.HTTP:
		return []draft.Table{check(draft.Entry{Key: "path", Value: "/healthz"}), check(draft.Entry{Key: "path", Value: "/health"}), check(draft.Entry{Key: "path", Value: "/"})}
	case convert.HTTPS:
		insecure := draft.Entry{Key: "tls_verify", Value: false}
		return []draft.Table{check(draft.Entry{Key: "path", Value: "/healthz"}, insecure), check(draft.Entry{Key: "path", Value: "/"}, insecure)}
	case convert.Kafka:
		return []draft.Table{check(), check(draft.Entry{Key: "advertised", Value: "ignore"})}
	}
	return []draft.Table{check()}
}

// Suggest adds a health check as a comment, for a service that passed none of its checks. reason says why, if it is known.
func (c *Candidate) Suggest(reason string) {
	if len(c.Checks) == 0 {
		return
	}
	check := c.Checks[0]
	switch kind := fmt.Sprint(check[0].Value); convert.Protocol(kind) {
	case convert.Postgres:
		check = append(check, draft.Entry{Key: "user", Value: "postgres"}, draft.Entry{Key: "password", Value: passwordOf(c.Name)})
	case convert.Redis:
		check = append(check, draft.Entry{Key: "password", Value: passwordOf(c.Name)})
	case convert.MQTT:
		check = append(check, draft.Entry{Key: "user", Value: "…"}, draft.Entry{Key: "password", Value: passwordOf(c.Name)})
	}
	c.Suggestions = append(c.Suggestions, draft.Entry{Key: "health_check", Value: check, Comment: reason})
}

func passwordOf(service string) draft.Template {
	return draft.Template("${" + convert.PasswordVariable(service, "password") + "}")
}
