package client

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/localport-sh/localport/forwarder/api"
)

// Draining returns the project's supervisors that accept no new clients, and run until the established connections have ended.
func (p *Project) Draining() []api.Draining {
	state := p.Dir.ReadOrZero()
	var all []api.Draining
	for _, d := range state.LiveDraining() {
		wire := api.Draining{PID: d.PID}
		if !d.Until.IsZero() {
			wire.Until = new(d.Until)
		}
		for _, name := range slices.Sorted(maps.Keys(d.Connections)) {
			wire.Services = append(wire.Services, api.OpenConnections{Name: name, Open: d.Connections[name]})
		}
		all = append(all, wire)
	}
	return all
}

// EndDraining has the draining supervisors close the connections that are left, and exit, unless these are of services that another project has
// taken over.
func (p *Project) EndDraining() error {
	state := p.Dir.ReadOrZero()
	var errs []error
	for _, d := range state.LiveDraining() {
		args := readArguments(d.PID) // nil on systems without /proc
		if d.PassedOn || args != nil && processRole(args) != SupervisorRole {
			continue
		}
		if err := syscall.Kill(d.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("stop the draining supervisor (pid %d): %w", d.PID, err))
		}
	}
	return errors.Join(errs...)
}
