// Package probe asks whether a service is well, in the service's own protocol and through its tunnel. A probe never
// connects to our own listener: that accepts with nothing behind it.
package probe

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project"
)

// Path is the way to the service: its tunnel.
type Path interface {
	// Dial opens a connection. Where the far end turns it down later, Read returns what the tunnel reported.
	Dial(ctx context.Context) (net.Conn, error)
	// Acknowledges reports whether a connection that Dial returned is known to have reached the service.
	Acknowledges() bool
}

// Check asks once. Nil is well; an error says what was wrong in the protocol's own words. The context bounds it.
type Check func(ctx context.Context, path Path) error

// kinds are the health_check types, by name. A new one is a function and a line here.
var kinds = map[string]func(project.HealthCheck) Check{
	"tcp":  func(project.HealthCheck) Check { return TCP },
	"none": func(project.HealthCheck) Check { return nil },
}

// New is the check that a configuration asks for; nil where it asks for none.
func New(c project.HealthCheck) (Check, error) {
	kind, ok := kinds[c.Type]
	if !ok {
		names := make([]string, 0, len(kinds))
		for name := range kinds {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("health check %q is not known: %s", c.Type, strings.Join(names, ", "))
	}
	return kind(c), nil
}
