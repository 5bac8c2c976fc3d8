package supervisor

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/project"
)

// slowDriver opens tunnels that take a while to open and to close.
type slowDriver struct{ openTime, closeTime time.Duration }

func (d slowDriver) Open(context.Context, project.Service, forwarder.Run) (forwarder.Tunnel, error) {
	time.Sleep(d.openTime)
	return &slowTunnel{make(chan struct{}), d.closeTime}, nil
}
func (slowDriver) Target(project.Service) string { return "slow" }
func (slowDriver) Close() error                  { return nil }

type slowTunnel struct {
	done      chan struct{}
	closeTime time.Duration
}

func (t *slowTunnel) Dial(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
func (t *slowTunnel) Refusals() <-chan forwarder.Refusal     { return nil }
func (t *slowTunnel) Acknowledges() bool                     { return true }
func (t *slowTunnel) Done() <-chan struct{}                  { return t.done }
func (t *slowTunnel) Err() error                             { return nil }
func (t *slowTunnel) Close() error {
	time.Sleep(t.closeTime)
	close(t.done)
	return nil
}

// noPort is a port without sockets.
type noPort struct{}

func (noPort) Attach(forwarder.Tunnel)                {}
func (noPort) Detach(forwarder.Tunnel)                {}
func (noPort) Hold()                                  {}
func (noPort) Reject()                                {}
func (noPort) DropWaiting()                           {}
func (noPort) Dial(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
func (noPort) Stats() relay.Stats                     { return relay.Stats{} }
func (noPort) SetConnectTimeout(time.Duration)        {}
func (noPort) SetMaxConnections(int)                  {}
func (noPort) StopAccepting()                         {}
func (noPort) Release()                               {}
func (noPort) Close() error                           { return nil }

// newSlowActiveConfig is a plan of unchecked services with one slow driver.
func newSlowActiveConfig(t *testing.T, driver slowDriver, services ...project.Service) *activeConfig {
	t.Helper()
	host := service.Host{
		Log: slog.New(slog.DiscardHandler), Mask: strings.Clone, CheckSlots: make(chan struct{}, 1),
		Dependencies: service.NewDependencies(), PublishEvent: func(eventlog.Event, forwarder.State) {},
		OnChange: func() {}, OnStateChange: func() {}, OnLastClient: func() {}, OnPortOpened: func() {},
		NewRun: func(context.Context, *eventlog.File) (forwarder.Run, func(), error) {
			return forwarder.Run{Log: io.Discard}, func() {}, nil
		},
		OpenPort: func(context.Context, project.Service, relay.Options) (service.Port, error) { return noPort{}, nil },
	}
	launch := taskStarter(t.Context())
	p := &activeConfig{project: &project.Project{Services: services}, services: make(map[string]*runningService)}
	for _, svc := range services {
		svc.LocalPort = 1
		svc.HealthCheck.Type = project.CheckNone
		definition, err := service.Define(svc, driver)
		if err != nil {
			t.Fatal(err)
		}
		lines := eventlog.NewFile("/nonexistent/log", nil, eventlog.Limits{})
		running := service.New(host, definition, lines)
		p.services[svc.Name] = &runningService{running, lines, launch(running.Run), &serviceState{}}
	}
	return p
}

func TestActiveConfig_StartsAndStopsIndependentServicesConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c"}
		p := newSlowActiveConfig(t, slowDriver{openTime: time.Second, closeTime: 2 * time.Second},
			project.Service{Name: "a"}, project.Service{Name: "b"}, project.Service{Name: "c"})
		start := time.Now()
		p.startServices(names, service.StartOptions{})
		time.Sleep(time.Second)
		synctest.Wait()
		for _, name := range names {
			if state := p.services[name].Snapshot().State; state != forwarder.Healthy {
				t.Errorf("%s is %s after %v", name, state, time.Since(start))
			}
		}
		start = time.Now()
		ended := p.stopServices(names)
		if took := time.Since(start); took > 0 {
			t.Errorf("the ports were closed after %v", took)
		}
		for _, name := range names {
			<-ended[name]
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("all had ended after %v", took)
		}
		p.stopAll()
	})
}

func TestActiveConfig_StopEndsDependentsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowActiveConfig(t, slowDriver{closeTime: 2 * time.Second},
			project.Service{Name: "a"}, project.Service{Name: "b", DependsOn: []string{"a"}},
			project.Service{Name: "c", DependsOn: []string{"b"}}, project.Service{Name: "other"})
		all := []string{"a", "b", "c", "other"}
		p.startServices(all, service.StartOptions{})
		synctest.Wait()
		start := time.Now()
		ended := p.stopServices(all)
		for _, want := range []struct {
			name string
			took time.Duration
		}{{"other", 2 * time.Second}, {"c", 2 * time.Second}, {"b", 4 * time.Second}, {"a", 6 * time.Second}} {
			<-ended[want.name]
			if took := time.Since(start); took != want.took {
				t.Errorf("%s ended after %v, want %v", want.name, took, want.took)
			}
		}
		p.stopAll()
	})
}
