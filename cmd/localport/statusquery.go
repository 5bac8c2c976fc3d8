package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// queryStatus returns the supervisor's status or, if none runs, that of a stopped project.
func (p commandProject) queryStatus(ctx context.Context) (api.Status, error) {
	client, status, err := p.FindSupervisor(ctx)
	if err != nil || client != nil {
		return status, err
	}
	return p.stoppedStatus(ctx)
}

// queryOrReadStatus is queryStatus or, in a sandbox from which a running supervisor cannot be asked, what that has recorded in the state file.
func (p commandProject) queryOrReadStatus(ctx context.Context) (api.Status, error) {
	status, err := p.queryStatus(ctx)
	sandbox, ok := errors.AsType[*client.SandboxError](err)
	if !ok || sandbox.Recorded == nil || sandbox.Recorded.Services == nil {
		return status, err
	}
	return p.recordedStatus(sandbox, sandbox.Recorded), nil
}

// unknownState is the state of a service in recordedStatus.
const unknownState forwarder.State = "unknown"

// recordedStatus is the status of a running project as far as the state file has it. cause is why its supervisor cannot be asked.
func (p commandProject) recordedStatus(cause error, recorded *lockstate.Supervisor) api.Status {
	state := p.Dir.ReadOrZero()
	state.PruneLeases()
	status := api.Status{
		Project: p.Root, Config: p.Config, State: api.StateRunning, Leases: client.WireLeases(state.Leases), RecordedAt: &recorded.ServicesAt,
		Supervisor: &api.SupervisorStatus{
			PID: recorded.PID, Run: recorded.Run, Version: recorded.Version, Since: recorded.Since, Socket: recorded.Socket, Log: p.Dir.LogPath("supervisor"),
			Keeper: recorded.Keeper,
		},
		Warnings: []string{fmt.Sprintf("%v; the services are those of the state file, recorded %s ago", cause, formatAge(recorded.ServicesAt))},
	}
	for _, svc := range recorded.Services {
		service := api.ServiceStatus{Name: svc.Name, State: unknownState, Addresses: svc.Addresses, Held: svc.Held, Reverse: len(svc.Addresses) == 0, Log: p.Dir.LogPath(svc.Name)}
		if len(svc.Addresses) > 0 {
			service.Address = svc.Addresses[0]
		}
		for _, text := range svc.Addresses {
			if addr, err := netip.ParseAddrPort(text); err == nil {
				service.Port = int(addr.Port())
			}
		}
		if !svc.Held && !service.Reverse {
			service.LastError = "its port is not open"
		}
		status.Services = append(status.Services, service)
	}
	return status
}

// compareTimeout bounds the comparison of environments, for which the supervisor reads files.
const compareTimeout = 500 * time.Millisecond

// describeOtherEnvironment says in which variables this shell's environment chooses another target than the supervisor's. It is empty if there are
// none. It is not ok if the supervisor does not know this request or does not answer in time.
func describeOtherEnvironment(ctx context.Context, running client.Client) (text string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	names, err := running.CompareEnvironment(ctx, client.ShellEnvironment())
	last := len(names) - 1
	switch {
	case err != nil:
		return "", false
	case last < 0:
		return "", true
	case last == 0:
		return fmt.Sprintf("this shell's %s differs; \"localport restart\" uses it", names[0]), true
	}
	return fmt.Sprintf("this shell's %s and %s differ; \"localport restart\" uses them", strings.Join(names[:last], ", "), names[last]), true
}

// stoppedStatus returns the status of a project that has no supervisor: all services of the config, stopped.
func (p commandProject) stoppedStatus(ctx context.Context) (api.Status, error) {
	verdict, files, err := p.AskTrust()
	state := p.Dir.ReadOrZero()
	state.PruneLeases()
	if errors.Is(err, fs.ErrNotExist) && len(state.Leases) > 0 {
		return api.Status{}, output.WithHint(fmt.Errorf("the project is not running: %w", err),
			"localport -c "+output.ShellQuote(p.Config)+" stop")
	}
	if err != nil {
		return api.Status{}, err
	}
	parsed, err := p.parseConfig(files)
	if err != nil {
		return api.Status{}, err
	}
	status := api.Status{
		Project: p.Root, Config: p.Config, State: api.StateStopped,
		Services: stoppedServices(ctx, p, parsed), Leases: client.WireLeases(state.Leases), Failure: state.Failure,
	}
	if verdict != trust.Allowed {
		status.Pending = "not allowed: review the config, then run \"localport allow\""
	}
	return status, nil
}

func stoppedServices(ctx context.Context, p commandProject, parsed *project.Project) []api.ServiceStatus {
	services := make([]api.ServiceStatus, 0, len(parsed.Services))
	for _, svc := range parsed.Services {
		status := api.ConfiguredStatus(svc)
		status.Target, status.Log = supervisor.Target(ctx, p.Root, svc), p.Dir.LogPath(svc.Name)
		services = append(services, status)
	}
	return services
}
