package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

var errNoKeeper = errors.New("no process could be started to hand the ports over")

// memory is what a supervisor tells its successor: the text that it runs, which on disk may have been changed and not
// be allowed yet, and what could not be written to the state.
type memory struct {
	Files  *project.Files   `json:"files"`
	Socket socketFile       `json:"socket"`
	State  *lockstate.State `json:"state,omitempty"` // null where the state file has it all
	At     time.Time        `json:"at,omitzero"`     // leases in the file that are younger count as well
	// Terminated: it was ended by a SIGTERM, and left everything to its keeper.
	Terminated bool `json:"terminated,omitempty"`
}

// inheritance is what a keeper handed over, until it is taken.
type inheritance struct {
	alive  bool // the supervisor before this one lives, and is not to be disturbed before this one is ready
	memory memory

	mu    sync.Mutex
	files map[string][]*os.File
}

func inherit(handed *handoff.Handed) (*inheritance, error) {
	if handed == nil {
		return &inheritance{}, nil
	}
	in := &inheritance{alive: handed.Alive, files: handed.Files}
	if err := json.Unmarshal(handed.Memory, &in.memory); err != nil {
		return nil, fmt.Errorf("read what the supervisor before this one left: %w", err)
	}
	return in, nil
}

// take gives what was held under a name; nil if nothing was.
func (in *inheritance) take(name string) []*os.File {
	in.mu.Lock()
	defer in.mu.Unlock()
	files := in.files[name]
	delete(in.files, name)
	return files
}

// listeners are the inherited ones of a service, if they listen where it is to listen.
func (in *inheritance) listeners(svc project.Service) *relay.Listeners {
	files := in.take(keptService(svc.Name))
	defer closeFiles(files)
	if len(files) == 0 {
		return nil
	}
	ls, err := relay.InheritListeners(files)
	if err != nil {
		return nil
	}
	for _, addr := range ls.Addrs() {
		if !slices.Contains(svc.ListenAddresses(), addr) {
			ls.Close()
			return nil
		}
	}
	return ls
}

// has reports whether a service's listener on a port is among what was handed over.
func (in *inheritance) has(service string, port int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, file := range in.files[keptService(service)] {
		if l, err := net.FileListener(file); err == nil {
			addr, ok := l.Addr().(*net.TCPAddr)
			l.Close()
			if ok && addr.Port == port {
				return true
			}
		}
	}
	return false
}

// add puts files to what was handed over.
func (in *inheritance) add(files map[string][]*os.File) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.files == nil {
		in.files = make(map[string][]*os.File)
	}
	for name, files := range files {
		closeFiles(in.files[name])
		in.files[name] = files
	}
}

// rest gives everything that nobody took, by name: what the config has no use for any more.
func (in *inheritance) rest() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	var names []string
	for name, files := range in.files {
		closeFiles(files)
		names = append(names, name)
	}
	in.files = nil
	return names
}

func closeFiles(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// succeed takes over from the supervisor whose election was handed to us, and returns its record if it died.
func (s *Supervisor) succeed(ctx context.Context, election *os.File, socket string) *lockstate.Supervisor {
	s.election = s.dir.Inherit(election)
	if state := s.inherited.memory.State; state != nil {
		s.store.set(*state)
		s.store.count(mergeMemory(*state, s.inherited.memory.At))
	}
	if s.inherited.alive { // the record is its own until we are ready
		_ = s.store.sync(ctx)
		return nil
	}
	_ = s.store.sync(ctx)
	before := s.store.state().Supervisor
	s.store.record(ctx, func(state *lockstate.State) { state.Supervisor = s.record(socket) }, false)
	return before
}

// mergeMemory is what the supervisor before this one could not write: its leases and no others, but for those that were
// written since.
func mergeMemory(remembered lockstate.State, at time.Time) change {
	return func(state *lockstate.State) {
		stored := state.Leases
		state.Leases = slices.Clone(remembered.Leases)
		for _, lease := range stored {
			if lease.Since.After(at) {
				state.Hold(lease)
			}
		}
		state.Ports = remembered.Ports
		state.Stopped, state.Started, state.Only = remembered.Stopped, remembered.Started, remembered.Only
	}
}

// loadInherited reads the files; where they cannot run as they are, it falls back on those that ran before.
func (s *Supervisor) loadInherited() (*loaded, error) {
	l, err := s.load()
	old := s.inherited.memory.Files
	if err == nil || old == nil {
		return l, err
	}
	verdict, old, askErr := s.trust.Ask(old)
	if askErr != nil || verdict != trust.Allowed {
		return nil, err
	}
	s.log.Warn("the files cannot run as they are; those that ran before go on", "error", s.mask(err.Error()))
	return s.parse(old)
}

// remind tells the keeper what a next supervisor is to be started with.
func (s *Supervisor) remind() {
	p := s.plan.Load()
	m := memory{Files: p.files, Socket: s.socket.bound(), At: time.Now(), Terminated: s.terminated.Load()}
	if _, behind := s.store.isBehind(); behind {
		state := s.store.state()
		m.State = &state
	}
	data, err := json.Marshal(m)
	if err != nil {
		s.log.Error("remind", "error", err)
		return
	}
	s.keeping.leave(handoff.Note{
		Exe: s.o.Exe, Args: []string{"supervise", "--config", s.o.Config, "--kept", "--log-level", strings.ToLower(s.o.Level.Level().String())},
		Env: s.env.inherited(), Log: s.dir.Log("supervisor"), Memory: data,
		Supervisor: lockstate.Self(), Run: s.o.Run,
	})
}

// Replace hands the project over to another supervisor: leases, ports and waiting clients of the kernel's go there, and
// this one finishes the connections that it has.
func (s *Supervisor) Replace(ctx context.Context, r api.Replacement) error {
	if err := s.beginAct(ctx); err != nil {
		return err
	}
	defer s.endAct()
	s.log.Info("replaced by another supervisor", "exe", r.Exe, "version", r.Version)
	passed, err := s.keeping.replace(ctx, r.Exe)
	if err != nil {
		err = fmt.Errorf("start %s: %w", r.Exe, err)
		s.stay(r, err)
		return err
	}
	s.leaveTo(passed)
	s.socket.abandon()
	_ = s.election.Handover()
	close(s.ended)
	return nil
}

// leaveTo leaves the ports to another supervisor, which accepts on copies of the listeners. Established connections go on until
// passed is closed.
func (s *Supervisor) leaveTo(passed <-chan struct{}) {
	s.mu.Lock()
	s.passed = passed
	s.mu.Unlock()
	s.closing.Store(true)
	s.stopAccepting()
}

// stopAccepting closes the listeners here: who comes from now on waits in others' copies of them.
func (s *Supervisor) stopAccepting() {
	for _, svc := range s.plan.Load().services {
		if port := svc.Snapshot().Port(); port != nil {
			port.StopAccepting()
		}
	}
}

// stay records this supervisor again after a successor could not take over, which is not tried again.
func (s *Supervisor) stay(r api.Replacement, cause error) {
	s.log.Error("the replacement failed; this supervisor goes on", "version", r.Version, "error", cause)
	s.save(func(state *lockstate.State) {
		s.recordSelf(state)
		state.Supervisor.Refused = r.Version
	}, true)
}

// finishConnections returns when every connection of a supervisor that was replaced has ended, or with the project.
func (s *Supervisor) finishConnections(ctx context.Context, passed <-chan struct{}) {
	left := maps.Clone(s.plan.Load().services)
	tick := time.NewTicker(5 * time.Second) // for a service that ends by itself
	defer tick.Stop()
	for {
		for name, svc := range left {
			if stats := svc.Snapshot().Stats(); stats.Open+stats.Waiting == 0 {
				delete(left, name)
				svc.Stop()
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-s.lastClient:
		case <-tick.C:
		case <-passed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// inherit takes what a keeper has for us.
func (s *Supervisor) inherit() (err error) {
	if s.o.Kept == nil {
		s.inherited = &inheritance{}
		return nil
	}
	link, handed, err := s.o.Kept()
	if err != nil {
		return err
	}
	s.keeping.setLink(link)
	s.inherited, err = inherit(handed)
	return err
}

// record is this supervisor as it stands in the state.
func (s *Supervisor) record(socket string) *lockstate.Supervisor {
	return &lockstate.Supervisor{
		Process: lockstate.Self(), Run: s.o.Run, Socket: socket, Version: s.o.Version, Since: s.started.UTC(),
		Keeper: s.keeping.pid(),
	}
}

// recordSelf is the change that records this supervisor.
func (s *Supervisor) recordSelf(state *lockstate.State) {
	refused := ""
	if state.Supervisor != nil && state.Supervisor.Process == lockstate.Self() {
		refused = state.Supervisor.Refused
	}
	state.Supervisor = s.record(s.socket.path())
	state.Supervisor.Refused = refused
}

// recordKeeper writes the keeper's pid down: the system may name it as who holds our ports.
func (s *Supervisor) recordKeeper(pid int) {
	s.save(func(state *lockstate.State) {
		if state.Supervisor != nil && state.Supervisor.Process == lockstate.Self() {
			state.Supervisor.Keeper = pid
		}
	}, false)
}

// withdraw gives up taking over from a supervisor that lives: it goes on as it was.
func (s *Supervisor) withdraw(cause error) {
	s.keeping.quit()
	s.plan.Load().stopAll()
	s.socket.abandon()
	_ = s.election.Handover()
	_ = s.folder.clean()
	s.o.Say(client.Readiness{Outcome: outcome(cause), Error: s.mask(cause.Error())})
}

// terminateWait is how long after a SIGTERM the keeper's own end is taken for the end of everything, as when a session or the
// system ends. freshTime is how young a supervisor is that follows one that was sent a SIGTERM, and is sent one too.
const (
	terminateWait = 500 * time.Millisecond
	freshTime     = 10 * time.Second
)

// onTerminate ends the supervisor after a SIGTERM. While there are leases, the keeper starts another: the ports stay open. If the
// keeper was sent one too, everything is meant to end.
func (s *Supervisor) onTerminate() {
	again := s.inherited.memory.Terminated && !s.inherited.alive && time.Since(s.started) < freshTime
	count, _ := s.countLeases()
	ctx, cancel := context.WithTimeout(context.Background(), terminateWait)
	defer cancel()
	if count == 0 && s.retire(reasonUnused, maxRetireTries) {
		s.log.Info("ended by a signal")
		return
	}
	if s.keeping.pid() != 0 {
		s.stopAccepting() // or who comes meanwhile would be reset with those that came before
	}
	if again || s.keeping.gone(ctx, terminateWait) {
		s.log.Info("ended by a signal, as its keeper")
		s.retire(reasonOrdered, maxRetireTries)
		return
	}
	s.log.Info("ended by a signal; the keeper starts another supervisor")
	s.handOver()
}

// handOver leaves everything to the keeper. What is established ends; what comes waits in the keeper's copies of the listeners.
func (s *Supervisor) handOver() {
	s.acts <- struct{}{}
	defer s.endAct()
	if s.closing.Load() {
		return // replaced meanwhile
	}
	s.closing.Store(true)
	s.terminated.Store(true)
	s.remind()
	for _, svc := range s.plan.Load().services {
		if port := svc.Snapshot().Port(); port != nil {
			// Reset before its tunnel ends, which a client could take for the end of what it reads. What comes from now on
			// waits in the keeper's copies.
			_ = port.Close()
		}
	}
	if !s.keeping.letRevive() {
		s.closePorts()
		_ = s.election.Resign()
	}
	s.socket.abandon()
	_ = s.election.Handover()
	close(s.ended)
}
