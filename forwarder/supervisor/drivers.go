package supervisor

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// drivers are the supervisor's, one for each technology, by name.
type drivers map[string]forwarder.Driver

func newDrivers(ctx context.Context, root string, log *slog.Logger) drivers {
	return oldDrivers()
}

func (d drivers) of(svc project.Service) (forwarder.Driver, error) {
	if driver := d[svc.Technology]; driver != nil {
		return driver, nil
	}
	return nil, fmt.Errorf("service %q: technology %q is not built in", svc.Name, svc.Technology)
}

// close ends what services shared. Every tunnel has been closed before.
func (d drivers) close(log *slog.Logger) {
	for name, driver := range d {
		if err := driver.Close(); err != nil {
			log.Error("close a technology", "technology", name, "error", err)
		}
	}
}
