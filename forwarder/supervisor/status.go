package supervisor

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/metrics"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/lockstate"
)

// Status is the project as it stands.
func (s *Supervisor) Status(ctx context.Context) (api.Status, error) {
	s.updatePending(ctx)
	return s.status()
}

// status is made of snapshots and waits for nothing.
func (s *Supervisor) status() (api.Status, error) {
	p := s.plan.Load()
	if p == nil || s.closing.Load() {
		return api.Status{}, api.ErrEnding
	}
	state := s.store.state()
	status := api.Status{
		Project: p.project.Root, Config: s.o.Config, State: api.Running,
		Leases: livingLeases(state.Leases),
		Supervisor: &api.SupervisorStatus{
			PID: lockstate.Self().PID, Run: s.o.Run, Version: s.o.Version, Since: s.started.UTC(),
			Socket: s.socket.path(), Log: s.dir.Log("supervisor"),
			Memory: metrics.ResidentMemory(), Keeper: s.keeping.pid(),
		},
		Clusters: s.clusters(p),
	}
	for _, warning := range p.project.Warnings {
		status.Warnings = append(status.Warnings, s.mask(warning.String()))
	}
	s.addNotes(&status)
	for _, svc := range p.project.Services {
		one := s.serviceStatus(p.services[svc.Name])
		if c := one.Connections; c.NoRoom != "" {
			status.Warnings = append(status.Warnings,
				fmt.Sprintf("%s: %s: %d open, %d waiting; %s", svc.Name, c.NoRoom, c.Open, c.Unseated, service.RoomHint))
		}
		status.Services = append(status.Services, one)
	}
	return status, nil
}

func (s *Supervisor) addNotes(status *api.Status) {
	s.mu.Lock()
	n := s.notes
	s.mu.Unlock()
	status.Pending = n.pending
	if n.polling != "" {
		status.Warnings = append(status.Warnings, "the files are compared every 2 s, because no events come: "+n.polling)
	}
	for _, trouble := range []string{n.userTrouble, n.metrics, n.directory} {
		if trouble != "" {
			status.Warnings = append(status.Warnings, s.mask(trouble))
		}
	}
	if err, behind := s.store.isBehind(); behind {
		status.Warnings = append(status.Warnings, "the state cannot be written; it is tried again: "+err.Error())
	}
}

func livingLeases(leases []lockstate.Lease) []api.Lease {
	living := []api.Lease{}
	for _, l := range leases {
		if l.Alive() {
			living = append(living, api.Lease{Kind: string(l.Kind), PID: l.PID, Start: l.Start, Dir: l.Dir, Since: l.Since})
		}
	}
	return living
}

// serviceStatus is a service as status shows it.
func (s *Supervisor) serviceStatus(svc *runningService) api.ServiceStatus {
	now := svc.Snapshot()
	one := api.Declared(now.Service)
	one.State, one.Target, one.Held, one.Ending = now.State, now.Target, now.Held(), now.Ending
	one.Health.Checked, one.Health.Latency = moment(now.Checked), now.Latency.Seconds()
	one.Since, one.UpSince, one.Restarts = now.Since.UTC(), moment(now.UpSince), now.Restarts
	one.LastError, one.Hint = now.LastError, now.Hint
	one.Connections = connections(now)
	one.Log = s.dir.Log(now.Service.Name)
	figures := svc.Figures()
	if len(figures.Checks) > 0 {
		one.Health.Latencies, one.Health.Results = figures.Latencies.Snapshot(), figures.Checks
	}
	one.RestartReasons = figures.Restarts
	return one
}

func connections(now *service.Snapshot) api.Connections {
	stats := now.Stats()
	noRoom := ""
	if stats.NoRoom != nil {
		noRoom = stats.NoRoom.Error()
	}
	return api.Connections{
		NoRoom: noRoom, Unseated: stats.WaitingForRoom, Resets: stats.NoRoomResets,
		Open: stats.Open, Waiting: stats.Waiting, Total: stats.Total, Waited: stats.Waited,
		WaitTime: stats.WaitTime.Seconds(), Replays: stats.Replays, BytesIn: stats.BytesIn, BytesOut: stats.BytesOut,
	}
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// watchPace is the least time between two snapshots that a watcher is sent.
const watchPace = 100 * time.Millisecond

// Watch passes the project to on as it stands, and again after each change. Changes within watchPace come as one.
func (s *Supervisor) Watch(ctx context.Context, on func(api.Status) error) error {
	for {
		change := s.changes.Changed()
		status, err := s.status()
		if err == nil {
			err = on(status)
		}
		if err != nil {
			return err
		}
		pace := time.NewTimer(watchPace)
		for range 2 { // a change, and not too soon after the last
			select {
			case <-change:
				change = nil
			case <-pace.C:
			case <-ctx.Done():
				pace.Stop()
				return ctx.Err()
			case <-s.ended:
				pace.Stop()
				return api.ErrEnding
			}
		}
	}
}

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

// view is what a client's environment needs.
func (s *Supervisor) view() api.View {
	line := s.store.state().Line // before the snapshots: what it announces is in them
	p := s.plan.Load()
	view := api.View{Config: s.o.Config, Digest: p.digest, Line: line, Env: p.project.Env, DotEnv: map[string]string{}}
	for _, entry := range p.project.Env {
		for _, match := range reference.FindAllStringSubmatch(entry.Template, -1) {
			if value, ok := p.project.DotEnv[match[1]]; ok {
				view.DotEnv[match[1]] = value
			}
		}
	}
	for _, svc := range p.project.Services {
		view.Services = append(view.Services, serviceView(p.services[svc.Name].Snapshot()))
	}
	return view
}

func serviceView(now *service.Snapshot) api.ServiceView {
	addr := now.Service.Addresses()[0]
	return api.ServiceView{
		Name: now.Service.Name, State: now.State, Held: now.Held() && !now.Service.Reverse,
		Host: addr.Addr().String(), Port: int(addr.Port()), Reason: now.LastError,
	}
}
