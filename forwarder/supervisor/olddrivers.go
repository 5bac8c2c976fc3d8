package supervisor

import (
	"context"
	"reflect"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

type oldDriver struct {
	kind forwarder.Kind
	mu   sync.Mutex
	all  map[string]oldEntry
}
type oldEntry struct {
	svc  project.Service
	tech forwarder.Technology
}

func oldDrivers() drivers {
	d := drivers{}
	for _, kind := range technologies {
		d[kind.Name] = &oldDriver{kind: kind, all: map[string]oldEntry{}}
	}
	return d
}

func (d *oldDriver) of(svc project.Service) forwarder.Technology {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.all[svc.Name]
	if !ok || !reflect.DeepEqual(e.svc.Connection, svc.Connection) || !reflect.DeepEqual(e.svc, svc) {
		e = oldEntry{svc, d.kind.New(svc)}
		d.all[svc.Name] = e
	}
	return e.tech
}

func (d *oldDriver) Open(ctx context.Context, svc project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	return d.of(svc).Open(ctx, run)
}
func (d *oldDriver) Target(svc project.Service) string { return d.of(svc).Target() }
func (d *oldDriver) Close() error                      { return nil }
func (d *oldDriver) Cluster(svc project.Service) (forwarder.Surroundings, bool) {
	if t, ok := d.of(svc).(forwarder.Situated); ok {
		return t.Surroundings()
	}
	return forwarder.Surroundings{}, false
}
func (d *oldDriver) ReceiveCredential(svc project.Service, run forwarder.Run, c []byte) error {
	if t, ok := d.of(svc).(forwarder.Loginer); ok {
		return t.Login(run, c)
	}
	return nil
}
