// Package kubeservices writes services of a Kubernetes cluster as services of a config.
package kubeservices

import (
	"cmp"
	"fmt"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/forwarder/kubectl/catalog"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// Candidate is a service of a config without a health check, and what it probably speaks. Which checks it passes is known when it has been asked.
type Candidate struct {
	draft.Service
	Protocol convert.Protocol
}

// Convert makes a service of each port. Names are unique, and no two services have the same local port.
func Convert(services []catalog.Service, location session.Location, ports *draft.LocalPorts) []Candidate {
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

func newCandidate(name string, svc catalog.Service, port catalog.Port, kubeContext string, ports *draft.LocalPorts) Candidate {
	c := Candidate{Service: draft.Service{Name: name}, Protocol: protocolOf(svc, port)}
	c.Set("technology", "kubectl")
	localPort, comment := ports.Choose(name, "", port.Number)
	c.Entries = append(c.Entries, draft.Entry{Key: "local_port", Value: draft.LocalPortValue(localPort), Comment: comment})
	c.Set("remote_port", remotePort(port))
	connection := draft.Table{}
	connection.Set("resource_name", svc.Name)
	connection.Set("namespace", svc.Namespace)
	connection.Set("context", kubeContext)
	c.Set("connection", connection)
	return c
}

// remotePort returns the port's name, which outlives a change of its number; its number if the name is none that a config accepts.
func remotePort(port catalog.Port) any {
	if project.IsPortName(port.Name) {
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
