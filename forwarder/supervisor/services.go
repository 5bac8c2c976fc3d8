package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/ephemeral"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// newActiveConfig makes the active config of a loaded one, still without services.
func newActiveConfig(l *loadedConfig) *activeConfig {
	return &activeConfig{files: l.files, project: l.project, digest: l.files.Digest(), digests: l.files.Digests(), services: make(map[string]*runningService)}
}

// addService makes a stopped service and starts its run loop, which ends with endLoop.
func (s *Supervisor) addService(d service.Definition) *runningService {
	lines := eventlog.NewFile(s.dir.LogPath(d.Name), s.mask, logLimits(s.userConfig()))
	state := &serviceState{lastClientCh: make(chan struct{}, 1)}
	svc := service.New(s.serviceHost(state), d, lines)
	return &runningService{svc, lines, s.startTask(svc.Run), state}
}

// serviceHost is what the supervisor provides to a service.
func (s *Supervisor) serviceHost(svc *serviceState) service.Host {
	return service.Host{
		Log: s.log, Mask: s.mask, Dir: s.root(), Environ: s.env.childEnviron, CheckSlots: s.checkSlots, ClientSlots: s.clientSlots, Dependencies: s.dependencies,
		PublishEvent: func(e eventlog.Event, state forwarder.State) {
			if !svc.isRetired.Load() {
				s.events.publish(e, state)
			}
		},
		OnChange: s.changes.Announce, OnStateChange: s.stateChanges.Announce, OnLastClient: func() { wait.Notify(s.lastClientCh); wait.Notify(svc.lastClientCh) },
		NewRun: s.newRun, OpenPort: s.bindPort, BorrowPort: s.borrowPort, ExplainPort: explainPort, OnPortOpened: s.onPortOpened,
	}
}

// newRun makes the run id and the socket directory of one tunnel, and a function that removes the directory.
func (s *Supervisor) newRun(ctx context.Context, lines *eventlog.File) (forwarder.Run, func(), error) {
	n := s.tunnelCount.Add(1)
	id := fmt.Sprintf("%s.%d", s.options.RunID, n)
	sockets, err := s.runDir.createSubdirectory(ctx, fmt.Sprint(n))
	if err != nil {
		return forwarder.Run{}, func() {}, err
	}
	run := forwarder.Run{ID: id, Dir: s.root(), SocketDir: sockets, Env: s.env.childEnviron(), Log: lines.RunWriter(id)}
	return run, func() { _ = os.RemoveAll(sockets) }, nil
}

func (s *Supervisor) selection() serviceSelection {
	state := s.store.state()
	return serviceSelection{state.Stopped, state.Started, state.Only}
}

// heldPort is a service's port whose listeners the keeper holds copies of.
type heldPort struct {
	*relay.Relay
	keeper *handoffClient
	held   *heldFiles // at the keeper
	bridge *bridgeListener
}

// Release closes the listeners here and the keeper's copies.
func (p *heldPort) Release() {
	p.bridge.release()
	p.keeper.drop(p.held)
	p.StopAccepting()
}

// Close releases the port and resets every client.
func (p *heldPort) Close() error {
	p.StopAccepting()
	return p.Relay.Close()
}

// openPort gets the listeners of a service and accepts clients on them.
func (s *Supervisor) openPort(ctx context.Context, svc project.Service, o relay.Options) (service.Port, error) {
	listeners, err := s.bindListeners(ctx, svc)
	if err != nil {
		return nil, err
	}
	s.pendingPorts.end(svc.Name)
	o.FindMainProcess = func(clients []netip.AddrPort) string {
		return describeMainProcess(holder.Connections(svc.ListenAddresses()), clients)
	}
	r := relay.New(listeners, o)
	port := &heldPort{r, s.keeper, s.keeper.hold(serviceHoldName(svc.Name), listeners.Files), newBridgeListener(s, r)}
	port.bridge.update(ctx, svc)
	return port, nil
}

// describeMainProcess says which process has most of the clients' connections, and how many; empty if the system does not tell.
func describeMainProcess(connections []holder.Connection, clients []netip.AddrPort) string {
	counts := map[holder.Holder]int{}
	var most holder.Holder
	for _, connection := range connections {
		if h := connection.Holder; h.PID != 0 && slices.Contains(clients, connection.Client) {
			counts[h]++
			if counts[h] > counts[most] {
				most = h
			}
		}
	}
	if most.PID == 0 {
		return ""
	}
	return fmt.Sprintf("%s has %d of the connections", most, counts[most])
}

// bindListeners inherits or binds the listeners of a service.
func (s *Supervisor) bindListeners(ctx context.Context, svc project.Service) (*relay.Listeners, error) {
	if inherited := s.inherited.takeListeners(svc); inherited != nil {
		return inherited, nil
	}
	return s.bindWithSiblings(ctx, svc)
}

// bindAddresses listens on all of the addresses or on none. A project without leases gives up a port that is needed here.
func (s *Supervisor) bindAddresses(ctx context.Context, addrs []netip.AddrPort) (*relay.Listeners, error) {
	listeners, err := relay.BindListeners(addrs)
	var inUse *relay.AddrInUseError
	if !errors.As(err, &inUse) || !s.askToYield(ctx, inUse.Addr) {
		return listeners, err
	}
	return relay.BindListeners(addrs)
}

// yieldTimeout bounds the wait for other projects' supervisors: a prompt waits for this one meanwhile, for at most 2 s in all.
const yieldTimeout = time.Second

// otherProjects are the state directories of this user's other projects that are running.
func (s *Supervisor) otherProjects() []otherProject {
	dirs, err := lockstate.ListDirs()
	if err != nil {
		s.log.Warn("cannot ask some projects for a port", "error", err)
	}
	var others []otherProject
	for _, dir := range dirs {
		if other := dir.ReadOrZero().Supervisor; dir.Config != s.dir.Config && other != nil && other.IsAlive() {
			others = append(others, otherProject{dir, *other})
		}
	}
	return others
}

// otherProject is another project of the user, with its recorded supervisor.
type otherProject struct {
	*lockstate.Dir
	supervisor lockstate.Supervisor
}

// askToYield asks this user's other supervisors to give up an address if their projects have no leases, all at once, and reports whether one did.
func (s *Supervisor) askToYield(ctx context.Context, addr netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, yieldTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var hasYielded atomic.Bool
	for _, dir := range s.otherProjects() {
		wg.Go(func() {
			for _, socket := range dir.Sockets() {
				yielded, err := client.Client{Socket: socket}.Yield(ctx, []string{addr.String()})
				if err == nil && yielded {
					s.log.Info("another project gave up its ports", "project", dir.Config, "address", addr)
					hasYielded.Store(true)
					cancel() // no other project holds it
				}
				if err == nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return hasYielded.Load()
}

// onPortOpened has prompts export the variables of a service whose port could not be bound before.
func (s *Supervisor) onPortOpened() {
	if s.isClosing.Load() || s.isSuperseded.Load() {
		return // the state file belongs to a successor
	}
	s.store.enqueue(pendingChange{noChange, true}) // now, so that a command that waits for the port writes it before it returns
	s.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
		defer cancel()
		_ = s.store.sync(ctx) // retryWrites retries
	})
}

// explainPort says why a port could not be bound, which process has it if the system tells, and what to do.
func explainPort(err error, svc project.Service) (reason, hint string) {
	var inUse *relay.AddrInUseError
	if !errors.As(err, &inUse) {
		if errors.Is(err, os.ErrPermission) {
			return err.Error(), "ports below 1024 need root here: choose a higher local_port"
		}
		return err.Error(), ""
	}
	reason = fmt.Sprintf("%s is already in use", inUse.Addr)
	hint = fmt.Sprintf(
		`stop it, or give %s another local_address, another local_port or local_port = "auto" (also possible in %s); binding is retried every second`,
		svc.Name, project.LocalName)
	if refused, ok := errors.AsType[*otherTargetError](err); ok {
		return fmt.Sprintf("%s by the project of %s, whose service %q %s", reason, refused.config, refused.holder.Service, refused.difference()), hint
	}
	if silent, ok := errors.AsType[*unresponsiveHolderError](err); ok && !ephemeral.IsEphemeral(silent.holder.Config) {
		return fmt.Sprintf("%s by %s, which does not respond", reason, projectName(silent.holder.Dir, silent.holder.supervisor.PID)),
			fmt.Sprintf("localport daemon restart (in %s); binding is retried every second", filepath.Dir(silent.holder.Config))
	}
	if h, ok := holder.Find(inUse.Addr); ok {
		reason += " by " + holderName(h)
	}
	return reason, hint
}

// DescribePortHolder names the process that listens on an address, as a failed service does; empty if the system does not tell.
func DescribePortHolder(addr netip.AddrPort) string {
	if h, ok := holder.Find(addr); ok {
		return holderName(h)
	}
	return ""
}

// projectName names the project of a supervisor.
func projectName(dir *lockstate.Dir, pid int) string {
	if !ephemeral.IsEphemeral(dir.Config) {
		return fmt.Sprintf("the project of %s (localport, pid %d)", dir.Config, pid)
	}
	for _, lease := range dir.ReadOrZero().Leases {
		if lease.PID != 0 {
			pid = lease.PID
		}
	}
	return fmt.Sprintf("another localport forward (pid %d)", pid)
}

// holderName names the holder of a port: another project of this user by its config, any other process by name and pid.
func holderName(h holder.Holder) string {
	dirs, _ := lockstate.ListDirs()
	for _, dir := range dirs {
		if other := dir.ReadOrZero().Supervisor; h.PID != 0 && other != nil && (other.PID == h.PID || other.Keeper == h.PID) {
			return projectName(dir, other.PID)
		}
	}
	return h.String()
}
