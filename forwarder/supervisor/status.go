package supervisor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/metrics"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// Status returns the current status of the project. The error is api.ErrEnding.
func (s *Supervisor) Status(ctx context.Context) (api.Status, error) {
	s.refreshPending(ctx)
	return s.status()
}

// status is Status without the check for changed files. It reads snapshots and never waits.
func (s *Supervisor) status() (api.Status, error) {
	active := s.active.Load()
	if active == nil || s.isClosing.Load() {
		return api.Status{}, api.ErrEnding
	}
	state := s.store.state()
	status := api.Status{
		Project: active.project.Root, Config: s.options.Config, State: api.StateRunning,
		Leases: client.WireLeases(slices.DeleteFunc(state.Leases, func(l lockstate.Lease) bool { return !l.IsAlive() })),
		Supervisor: &api.SupervisorStatus{
			PID: s.self.PID, Run: s.options.RunID, Version: s.options.Version, Since: s.startedAt.UTC(),
			Socket: s.socket.path(), Log: s.dir.LogPath("supervisor"),
			Memory: metrics.ResidentMemory(), Keeper: s.keeper.pid(),
			Built: utcOrNil(s.builtAt), PredecessorDeath: s.predecessorDeath,
			EnvironmentRevision: s.env.currentRevision(), LoggedIn: s.loggedInServices(), LoginLoss: s.loginLoss.Load(),
		},
		Clusters: s.clusterStatuses(active),
	}
	for _, warning := range active.project.Warnings {
		status.Warnings = append(status.Warnings, s.mask(warning.String()))
	}
	s.addConditions(&status)
	for _, svc := range active.project.Services {
		svcStatus := s.serviceStatus(active.services[svc.Name])
		if c := svcStatus.Connections; c.Shortage != "" {
			status.Warnings = append(status.Warnings,
				fmt.Sprintf("%s: %s: %d open, %d waiting; %s", svc.Name, c.Shortage, c.Open, c.Unserved, c.ShortageHint))
		}
		status.Services = append(status.Services, svcStatus)
	}
	return status, nil
}

func (s *Supervisor) addConditions(status *api.Status) {
	n := s.currentConditions()
	status.Pending = n.pendingReason
	if n.pollingReason != "" {
		status.Warnings = append(status.Warnings, "changes of the files are found by comparing them every 2 s, because they cannot be watched: "+n.pollingReason)
	}
	for _, condition := range []string{n.userConfigError, n.metricsError, n.directoryError} {
		if condition != "" {
			status.Warnings = append(status.Warnings, s.mask(condition))
		}
	}
	if err := s.store.writeError(); err != nil {
		status.Warnings = append(status.Warnings, "the state file cannot be written; retrying: "+err.Error())
	}
}

// serviceStatus is the status of one service.
func (s *Supervisor) serviceStatus(svc *runningService) api.ServiceStatus {
	now := svc.Snapshot()
	status := api.ConfiguredStatus(now.Service)
	status.State, status.Target, status.Held, status.Ending = now.State, now.Target, now.IsReachable(), now.IsEnding
	status.Shared = sharedService(now)
	for _, l := range s.loans.ofService(now.Service.Name) {
		status.SharedWith = append(status.SharedWith, l.request.Project)
	}
	status.Health.Checked, status.Health.Latency = utcOrNil(now.CheckedAt), now.Latency.Seconds()
	status.Since, status.UpSince, status.Restarts = now.Since.UTC(), utcOrNil(now.UpSince), now.Restarts
	status.LastError, status.Hint = now.LastError, now.Hint
	if now.State == forwarder.Starting || now.State == forwarder.Restarting {
		status.Progress = svc.Progress()
	}
	if now.LastRefusal != "" {
		status.LastRefusal = &api.Refusal{Reason: now.LastRefusal, Hint: now.LastRefusalHint, Time: now.LastRefusedAt.UTC()}
	}
	status.Connections = connectionStatus(now)
	status.Log = s.dir.LogPath(now.Service.Name)
	counters := svc.Counters()
	if len(counters.ChecksByResult) > 0 {
		status.Health.Latencies, status.Health.Results = counters.CheckTimes.Snapshot(), counters.ChecksByResult
	}
	status.RestartReasons = counters.RestartsByReason
	status.Bridge = bridgeStatus(now.Port())
	return status
}

func connectionStatus(now *service.Snapshot) api.ConnectionStats {
	stats := now.Stats()
	shortage, hint := "", ""
	if stats.Shortage != nil {
		shortage, hint = stats.Shortage.Error(), service.ShortageHint(stats.Shortage)
	}
	return api.ConnectionStats{
		Shortage: shortage, ShortageHint: hint, Max: now.Service.MaxConnections, Unserved: stats.Unserved, Resets: stats.ShortageResets,
		Open: stats.Open, Waiting: stats.Waiting, Total: stats.Total, Waited: stats.Waited,
		WaitTime: stats.WaitTime.Seconds(), Replays: stats.Replays, BytesIn: stats.BytesIn, BytesOut: stats.BytesOut,
	}
}

// Minimum times between two statuses that a watcher is sent.
const (
	watchInterval       = 100 * time.Millisecond
	stateChangeInterval = 2 * time.Millisecond // if a service's state has changed: "start" and "exec" wait for that
	watchCostFactor     = 5                    // if it has, also at least this many times the time that the last status took to make and send
)

// Watch calls on with the current status and again after each change. Changes within a minimum time, and during a call, are coalesced.
func (s *Supervisor) Watch(ctx context.Context, on func(api.Status) error) error {
	return watchStatus(ctx, &s.changes, &s.stateChanges, s.endedCh, s.status, on)
}

// watchStatus calls on with status's result until on or status returns an error, ctx ends, or endedCh is closed.
func watchStatus(
	ctx context.Context, changes, stateChanges *wait.Broadcast, endedCh <-chan struct{}, status func() (api.Status, error), on func(api.Status) error,
) error {
	for {
		change, stateChange := changes.Changed(), stateChanges.Changed()
		startTime := time.Now()
		now, err := status()
		if err == nil {
			err = on(now)
		}
		if err != nil {
			return err
		}
		soonCh := time.After(max(stateChangeInterval, min(watchCostFactor*time.Since(startTime), watchInterval)))
		intervalCh := time.After(watchInterval)
		hasChanged, stateChanged, isSoon, isDue := false, false, false, false
		for (!hasChanged || !isDue) && (!stateChanged || !isSoon) {
			select {
			case <-change:
				hasChanged, change = true, nil
			case <-stateChange:
				stateChanged, stateChange = true, nil
			case <-soonCh:
				isSoon = true
			case <-intervalCh:
				isDue = true
			case <-ctx.Done():
				return ctx.Err()
			case <-endedCh:
				return api.ErrEnding
			}
		}
	}
}

var variableReference = project.LazyRegexp(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

// view is what a client needs to set its environment. line is the number of the prompts' line that the caller has read before: the view is at least as
// new.
func (s *Supervisor) view(line uint64) api.ProjectView {
	active := s.active.Load()
	view := api.ProjectView{Config: s.options.Config, Digest: active.digest, Files: active.digests, Line: line, Env: active.project.Env, DotEnv: map[string]string{}}
	for _, entry := range active.project.Env {
		for _, match := range variableReference().FindAllStringSubmatch(entry.Template, -1) {
			if value, ok := active.project.DotEnv[match[1]]; ok {
				view.DotEnv[match[1]] = value
			}
		}
	}
	for _, svc := range active.project.Services {
		view.Services = append(view.Services, serviceView(active.services[svc.Name].Snapshot()))
	}
	return view
}

func serviceView(now *service.Snapshot) api.ServiceView {
	addr := now.Service.Addresses()[0]
	return api.ServiceView{
		Name: now.Service.Name, State: now.State, Held: now.IsReachable() && !now.Service.Reverse,
		Host: addr.Addr().String(), Port: int(addr.Port()), Reason: now.LastError, Bridge: bridgeStatus(now.Port()), Shared: sharedService(now),
	}
}

// sharedService says which project has the port of a shared service; nil if the service is not shared.
func sharedService(now *service.Snapshot) *api.SharedService {
	if now.State != forwarder.Shared || now.Shared == nil {
		return nil
	}
	return &api.SharedService{Project: now.Shared.Project, Service: now.Shared.Service, State: now.Shared.State}
}

// clusterStatuses are the statuses of the clusters that services connect to, each once, in the order of the services.
func (s *Supervisor) clusterStatuses(active *activeConfig) []api.ClusterStatus {
	var all []api.ClusterStatus
	seen := make(map[[2]string]bool)
	for _, svc := range active.project.Services {
		now := active.services[svc.Name].Snapshot()
		reporter, ok := now.Driver.(forwarder.ClusterReporter)
		if !ok || now.IsStopped() {
			continue
		}
		info, known := reporter.Cluster(now.Service)
		if key := [2]string{info.Name, info.Address}; known && !seen[key] {
			seen[key] = true
			all = append(all, s.clusterStatus(info))
		}
	}
	return all
}

// expiryWarningTime is how long before its expiry status warns of a credential that is not renewed automatically.
const expiryWarningTime = time.Hour

func (s *Supervisor) clusterStatus(info forwarder.ClusterInfo) api.ClusterStatus {
	status := api.ClusterStatus{Context: info.Name, Server: info.Address, CredentialsExpire: utcOrNil(info.ExpiresAt), CredentialsRenewed: info.IsRenewed}
	if info.Failure != nil {
		status.Trouble, status.Hint = s.mask(info.Failure.Reason), s.mask(info.Failure.Hint)
		return status
	}
	if left := time.Until(info.ExpiresAt); !info.IsRenewed && status.CredentialsExpire != nil && left < expiryWarningTime {
		status.Trouble = fmt.Sprintf("the credentials expire in %v", left.Round(time.Minute))
		if left <= 0 {
			status.Trouble = "the credentials have expired"
		}
		status.Hint = `log in to the cluster again, then run "localport restart"`
	}
	return status
}

func utcOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
