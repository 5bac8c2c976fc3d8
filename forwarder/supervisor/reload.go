package supervisor

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// Reload reads the files again and applies the differences. It returns when the ports match the new config; tunnels open and
// close afterwards. After an error the previous config stays active; the error is api.ErrEnding, ctx's, or says why the files cannot be
// used, with secrets masked.
func (s *Supervisor) Reload(ctx context.Context) (api.ReloadResult, error) {
	for {
		// Read outside the operation: others, such as stop, must not wait for a slow disk.
		before := s.active.Load()
		files, err := s.source.readAllowed()
		var uses variableUses
		if err == nil && !bytes.Equal(files.DotEnv, before.files.DotEnv) {
			uses = readVariableUses(before.project, s.env.childEnviron())
		}
		if err := s.beginOperation(ctx); err != nil {
			return api.ReloadResult{}, err
		}
		if s.active.Load() != before {
			s.endOperation()
			continue // another reload may have applied something newer
		}
		reload, err := s.reload(ctx, before, files, uses, err)
		s.endOperation()
		if err != nil {
			return reload, errors.New(s.mask(err.Error()))
		}
		return reload, nil
	}
}

// reload applies files that were read; err is why they cannot be used. uses are those of the services before; nil if .env has not changed. It is
// called within an operation.
func (s *Supervisor) reload(ctx context.Context, before *activeConfig, files *project.Files, uses variableUses, err error) (api.ReloadResult, error) {
	var next *loadedConfig
	if err == nil {
		next, err = s.parseConfig(files)
	}
	if err != nil {
		refused := refusedFiles{err: err}
		if files != nil {
			refused.digest = files.Digest()
		}
		if !s.currentConditions().refusedFiles.equals(refused) {
			setCondition(s, &s.conditions.refusedFiles, refused)
		}
		return api.ReloadResult{}, err
	}
	if files.Digest() == before.digest {
		setCondition(s, &s.conditions.pendingReason, "")
		return api.ReloadResult{}, nil
	}
	return s.activate(ctx, before, next, uses), nil
}

// activate makes a loaded config the active one, and records its ports. uses says which variables each service uses. It is called within an
// operation.
func (s *Supervisor) activate(ctx context.Context, before *activeConfig, next *loadedConfig, uses variableUses) api.ReloadResult {
	reload := s.applyConfig(before, next, nil, uses)
	s.updateSuccessor()
	s.log.Info("config reloaded", "added", reload.Added, "removed", reload.Removed, "updated", reload.Updated)
	wait.Notify(s.reloadedCh)
	setCondition(s, &s.conditions.pendingReason, "")
	s.events.publish(eventlog.Event{Kind: eventlog.ConfigReloaded, Reason: reload.Summary()}, "")
	s.saveState(ctx, func(state *lockstate.State) { state.Ports = next.ports }, true)
	return reload
}

// applyConfig makes another config the active one. An unchanged service keeps its tunnel, connections and port; a changed one
// keeps its port if the addresses are equal. shell is the environment with which the config was parsed; nil: the present one. uses are those of the
// services before; nil if the environment is the same.
func (s *Supervisor) applyConfig(before *activeConfig, next *loadedConfig, shell environ.Env, uses variableUses) api.ReloadResult {
	reload := api.ReloadResult{Changed: true}
	environment := environmentChange{s.useConfig(next, shell), uses, shell != nil}
	before = s.passOnReplaced(before, next, environment)
	after := newActiveConfig(next)
	var replaced []string // services that were removed or whose addresses changed
	for _, old := range before.project.Services {
		svc, stays := next.project.FindService(old.Name)
		switch {
		case stays && slices.Equal(old.ListenAddresses(), svc.ListenAddresses()):
			after.services[old.Name] = before.services[old.Name]
			continue
		case stays:
			reload.Updated = append(reload.Updated, old.Name)
		default:
			reload.Removed = append(reload.Removed, old.Name)
		}
		replaced = append(replaced, old.Name)
	}
	// A port that moves to another service must be free before that one binds it.
	ended := before.stopServices(replaced)
	var added []string
	for _, svc := range next.project.Services {
		if after.services[svc.Name] == nil {
			after.services[svc.Name] = s.addService(next.definitions[svc.Name])
			added = append(added, svc.Name)
		}
	}
	s.resizeClientSlots(after)
	s.isOpening.Store(true)
	defer s.isOpening.Store(false)
	s.active.Store(after)
	s.changes.Announce()
	s.endReplacedServices(before, ended)
	selected, requestedAt := s.selection(), time.Now()
	wanted := wantedServices(next.project, selected)
	after.startServices(without(wanted, without(wanted, added)), service.StartOptions{RequestedAt: requestedAt})
	for _, svc := range next.project.Services {
		old, had := before.project.FindService(svc.Name)
		switch {
		case !had:
			reload.Added = append(reload.Added, svc.Name)
		case !slices.Contains(added, svc.Name) &&
			s.updateService(after, old, next.definitions[svc.Name], slices.Contains(wanted, svc.Name), environment, requestedAt):
			reload.Updated = append(reload.Updated, svc.Name)
		}
	}
	s.onBridgesChange()
	slices.Sort(reload.Added)
	slices.Sort(reload.Updated)
	return reload
}

// endReplacedServices ends the goroutines of services that are no longer part of the config, once their tunnels have ended.
func (s *Supervisor) endReplacedServices(before *activeConfig, ended map[string]<-chan struct{}) {
	for name, done := range ended {
		svc := before.services[name]
		s.tasks.Go(func() {
			<-done
			svc.stopRun()
		})
	}
}

// environmentChange is a change of the environment of child processes.
type environmentChange struct {
	names []string     // of the variables
	uses  variableUses // of the services before the change
	// isRequested is set if the user has asked for it, together with an action on the services that it is for.
	isRequested bool
}

// isUsedBy reports whether the tunnel of a service uses a variable that has changed.
func (c environmentChange) isUsedBy(service string) bool {
	uses := c.uses[service]
	return uses != nil && slices.ContainsFunc(c.names, uses)
}

// mayHelp reports whether the change may end a service's failure, although its tunnel is not known to use a variable that has changed: a program
// that ssh runs, or a login helper, may.
func (c environmentChange) mayHelp(now *service.Snapshot) bool {
	hasFailed := now.State == forwarder.NeedsAttention || now.State == forwarder.Failed
	return hasFailed && c.mayBeUsedBy(now.Service.Name)
}

// mayBeUsedBy reports whether a program that the service's tunnel runs may use a variable that has changed, unless the user restarts it anyway.
func (c environmentChange) mayBeUsedBy(service string) bool {
	return !c.isRequested && len(c.names) > 0 && c.uses[service] != nil
}

// updateService gives a service that keeps its addresses its new definition, and reports whether anything changed. A service whose tunnel uses a
// variable that has changed reconnects.
func (s *Supervisor) updateService(config *activeConfig, old project.Service, d service.Definition, wanted bool, environment environmentChange, requestedAt time.Time) bool {
	svc := config.services[d.Name]
	isUsed := environment.isUsedBy(d.Name)
	changed := !reflect.DeepEqual(old, d.Service) || isUsed
	if !wanted {
		svc.Stop()
	}
	if mayHelp := environment.mayHelp(svc.Snapshot()); changed || mayHelp {
		svc.Redefine(d, !isUsed && !mayHelp && hasSameTunnel(old, d.Service), requestedAt)
	} else if environment.mayBeUsedBy(d.Name) {
		svc.RetryLogin(requestedAt) // an attempt that is under way may fail for lack of the change
	}
	if wanted && svc.Snapshot().IsStopped() {
		svc.Start(service.StartOptions{RequestedAt: requestedAt})
	}
	return changed
}

// hasSameTunnel reports whether a tunnel of one definition can stay for the other.
func hasSameTunnel(a, b project.Service) bool {
	for _, svc := range []*project.Service{&a, &b} {
		svc.Tags, svc.Description, svc.Enabled, svc.Optional, svc.DependsOn = nil, "", false, false, nil
		svc.MaxConnections = 0
		svc.HealthCheck, svc.RestartPolicy = project.HealthCheck{}, project.RestartPolicy{}
		svc.ConnectTimeout, svc.IdleTimeout, svc.TargetSecrets, svc.Bridge = 0, 0, nil, ""
	}
	return reflect.DeepEqual(a, b)
}
