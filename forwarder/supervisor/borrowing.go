package supervisor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/forwarder/wait"
)

// Another project's supervisor that has a port may not answer yet, because it starts, is being replaced, or because the machine is busy. It is asked
// for askTimeout, while a prompt may be waiting. Then it is asked again, with more time for its answer and longer intervals, since many
// projects may be asking it at once, as long as pendingTimeout has not passed: until then the service is not failed.
const (
	askTimeout         = 500 * time.Millisecond
	minAskInterval     = 50 * time.Millisecond
	maxAskInterval     = 500 * time.Millisecond
	repeatedAskTimeout = 3 * time.Second
	pendingTimeout     = 20 * time.Second
)

// borrowPort shares the port of another project that has it, if the target is the same there. A project without leases gives up a port that it
// does not share. It is the BorrowPort of a service.Host.
func (s *Supervisor) borrowPort(ctx context.Context, d service.Definition, requestedAt time.Time, cause error) (service.SharedPort, error) {
	inUse, ok := errors.AsType[*relay.AddrInUseError](cause)
	if !ok || s.isClosing.Load() {
		return nil, cause
	}
	answer := s.askToShare(ctx, d, requestedAt, inUse.Addr)
	switch {
	case answer.shared != nil:
		s.pendingPorts.end(d.Name)
		return answer.shared, nil
	case answer.isFree:
		return nil, service.ErrPortFreed
	case answer.pending != nil:
		return nil, &service.PortPendingError{Project: filepath.Dir(answer.pending.Config)}
	case answer.unresponsive != nil:
		return nil, &unresponsiveHolderError{inUse, answer.unresponsive}
	case s.askToYield(ctx, inUse.Addr):
		return nil, service.ErrPortFreed
	case answer.refusal != nil:
		s.pendingPorts.end(d.Name)
		return nil, &otherTargetError{inUse, answer.config, answer.refusal, s.mask(d.Driver.Target(d.Service))}
	}
	return nil, cause
}

// otherTargetError is why a port is not shared.
type otherTargetError struct {
	*relay.AddrInUseError
	config string // of the project that has the port
	holder *api.NotSharedError
	target string // here
}

// difference says what differs, after the service that has the port.
func (e *otherTargetError) difference() string {
	if e.holder.Target == e.target {
		return fmt.Sprintf("leads to %s too, but with other credentials, by another route or on other local addresses", e.target)
	}
	return fmt.Sprintf("leads to another target (%s; here: %s)", e.holder.Target, e.target)
}

func (e *otherTargetError) Unwrap() error { return e.AddrInUseError }

// unresponsiveHolderError is the error of a port that is in use by a project that has not answered for pendingTimeout.
type unresponsiveHolderError struct {
	*relay.AddrInUseError
	holder *otherProject
}

func (e *unresponsiveHolderError) Unwrap() error { return e.AddrInUseError }

// holderOf returns that of these projects that has an address; nil if none is known to.
func holderOf(addr netip.AddrPort, projects []otherProject) *otherProject {
	pids := make([]int, 0, 2*len(projects))
	for _, p := range projects {
		pids = append(pids, p.supervisor.PID, p.supervisor.Keeper)
	}
	pid, ok := holder.FindAmong(addr, slices.DeleteFunc(pids, func(pid int) bool { return pid == 0 }))
	if !ok {
		return nil
	}
	i := slices.IndexFunc(projects, func(p otherProject) bool { return pid == p.supervisor.PID || pid == p.supervisor.Keeper })
	return &projects[i]
}

// pendingPorts are the services whose port belongs to a project that does not answer, and since when. It is safe for concurrent use.
type pendingPorts struct {
	mu       sync.Mutex // guards the field below
	begunAts map[string]time.Time
}

// since returns for how long a service has been waiting; it begins if it has not.
func (p *pendingPorts) since(name string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begunAts == nil {
		p.begunAts = make(map[string]time.Time)
	}
	if p.begunAts[name].IsZero() {
		p.begunAts[name] = time.Now()
	}
	return time.Since(p.begunAts[name])
}

// isWaiting reports whether a service has begun to wait.
func (p *pendingPorts) isWaiting(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.begunAts[name].IsZero()
}

func (p *pendingPorts) end(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.begunAts, name)
}

// shareAnswer is what the other projects say about a port.
type shareAnswer struct {
	shared  *borrowedPort       // nil unless one shares it
	refusal *api.NotSharedError // of the one that has it, for another target; may be nil
	config  string              // of that one
	pending *otherProject       // the one that has the port and is to be asked again; may be nil
	isFree  bool                // the port was closed meanwhile

	isIncomplete bool          // a project did not answer, or does not listen there as far as it knows
	unreachable  []string      // the configs of those that did not answer
	unresponsive *otherProject // the one of them that has the port, after pendingTimeout; may be nil
}

// askToShare asks the other projects to share a service's port, then the one that has it, again and again while that does not answer, for
// askTimeout; for repeatedAskTimeout if the service has been waiting for it before.
func (s *Supervisor) askToShare(ctx context.Context, d service.Definition, requestedAt time.Time, addr netip.AddrPort) shareAnswer {
	request, ok := s.newBorrowRequest(d, requestedAt)
	if !ok {
		return shareAnswer{}
	}
	projects, timeout := s.projectsToAsk(), askTimeout
	if s.pendingPorts.isWaiting(d.Name) {
		timeout = repeatedAskTimeout
		if pending := holderOf(addr, projects); pending != nil {
			projects = []otherProject{*pending}
		}
	}
	askCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for interval := minAskInterval; ; interval = min(2*interval, maxAskInterval) {
		answer := s.askOnce(askCtx, d.Name, request, projects)
		if answer.shared != nil || answer.refusal != nil || !answer.isIncomplete {
			return answer
		}
		pending := holderOf(addr, s.projectsToAsk())
		switch {
		case pending == nil:
			answer.isFree = s.bindFreed(ctx, d)
			return answer
		case s.pendingPorts.since(d.Name) <= pendingTimeout:
			answer.pending = pending
		case slices.Contains(answer.unreachable, pending.Config):
			answer.unresponsive = pending
			return answer
		default: // it says that it does not listen there
			return answer
		}
		projects = []otherProject{*pending}
		if !wait.Sleep(askCtx, interval) {
			return answer
		}
	}
}

// projectsToAsk are the other projects that may share a port: one that belongs to another PID namespace would refuse.
func (s *Supervisor) projectsToAsk() []otherProject {
	return slices.DeleteFunc(s.otherProjects(), func(other otherProject) bool { return other.supervisor.IsForeign() })
}

// bindFreed binds the listeners of a service for its next bind, and reports whether the port was free.
func (s *Supervisor) bindFreed(ctx context.Context, d service.Definition) bool {
	listeners, err := s.bindWithSiblings(ctx, d.Service)
	if err == nil {
		s.siblings.add(d.Name, listeners)
	}
	return err == nil
}

// newBorrowRequest makes the request for a service; false if its tunnels are not shared.
func (s *Supervisor) newBorrowRequest(d service.Definition, requestedAt time.Time) (api.BorrowRequest, bool) {
	nonce := []byte(rand.Text())
	digest, ok := s.targetDigest(d.Service, d.Driver, requestedAt, nonce)
	return api.BorrowRequest{
		Addresses: addressTexts(d.Service), Nonce: nonce, Digest: digest, Project: s.root(), Service: d.Name,
		PID: s.self.PID, Start: s.self.Start, KeepUp: !d.OnDemand,
	}, ok
}

// askOnce asks these projects, all at once.
func (s *Supervisor) askOnce(ctx context.Context, name string, r api.BorrowRequest, projects []otherProject) shareAnswer {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards answer
	var answer shareAnswer
	for _, other := range projects {
		wg.Go(func() {
			port, err := s.askProject(ctx, name, r, other)
			mu.Lock()
			defer mu.Unlock()
			refusal, isRefusal := errors.AsType[*api.NotSharedError](err)
			_, isForeign := errors.AsType[*api.ForeignError](err)
			switch {
			case err == nil && answer.shared != nil:
				port.Close()
			case err == nil:
				answer.shared = port
			case isRefusal:
				answer.refusal, answer.config = refusal, other.Config
			case !client.IsUnknownRequest(err) && !isForeign:
				answer.isIncomplete = true
				if isUnreachable(err) {
					answer.unreachable = append(answer.unreachable, other.Config)
				}
			}
		})
	}
	wg.Wait()
	return answer
}

// askProject asks one project at each path where its supervisor may listen.
func (s *Supervisor) askProject(ctx context.Context, name string, r api.BorrowRequest, other otherProject) (*borrowedPort, error) {
	err := errors.New("the supervisor has no socket yet")
	for _, socket := range other.Sockets() {
		conn, callErr := client.Client{Socket: socket}.Borrow(ctx, r)
		if callErr == nil {
			return s.followHolder(ctx, name, conn)
		}
		if err = callErr; !isUnreachable(err) {
			break
		}
	}
	return nil, err
}

func isUnreachable(err error) bool {
	_, ok := errors.AsType[*client.UnreachableError](err)
	return ok
}

// borrowedPort is a port that another project shares.
type borrowedPort struct {
	conn      *net.UnixConn
	name      string // of the service here
	changedCh chan struct{}
	doneCh    chan struct{}
	// The goroutine that reads updates owns these: the bytes of a line that is not complete, and when the holder sends the next update at the
	// latest; 0: unknown.
	line       []byte
	nextWithin time.Duration

	mu           sync.Mutex // guards the fields below
	status       service.SharedStatus
	isTakingOver bool // the connection is needed for the answer to the holder's offer
}

var _ service.SharedPort = (*borrowedPort)(nil)

// followHolder waits for the first update on a connection, until ctx ends, and then has a task read the others.
func (s *Supervisor) followHolder(ctx context.Context, name string, conn *net.UnixConn) (*borrowedPort, error) {
	p := &borrowedPort{conn: conn, name: name, changedCh: make(chan struct{}, 1), doneCh: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	update, err := p.readUpdate()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil || update.IsOffer {
		conn.Close()
		return nil, fmt.Errorf("read the status of the shared service: %w", err)
	}
	p.setStatus(update)
	s.tasks.Go(func() { s.follow(p) })
	return p, nil
}

// follow reads the holder's updates until it no longer shares the port, and takes over the listeners if it offers them.
func (s *Supervisor) follow(p *borrowedPort) {
	defer p.conn.Close()
	for {
		p.awaitNextUpdate()
		update, err := p.readUpdate()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.log.Warn("the project that has the port of a shared service does not respond", "service", p.name, "project", p.Status().Project)
			p.setUnresponsive()
			continue
		case err != nil:
			close(p.doneCh)
			return
		case update.IsOffer:
			s.takeOffer(p)
			return
		}
		p.setStatus(update)
	}
}

// takeOffer takes the listeners that the holder offers: the service binds its port with them, and only then the holder closes its own.
func (s *Supervisor) takeOffer(p *borrowedPort) {
	p.mu.Lock()
	p.isTakingOver = true
	p.mu.Unlock()
	err := s.receiveListeners(p)
	close(p.doneCh) // the service binds them, or the port
	if err != nil {
		s.log.Error("cannot receive the port of a shared service", "service", p.name, "error", err)
		return
	}
	hasTaken := s.awaitPort(p.name)
	unused := s.inherited.take(serviceHoldName(p.name))
	closeFiles(unused)
	s.log.Info("a project passed on the port of a shared service", "service", p.name, "project", p.Status().Project, "taken", hasTaken)
	if err := json.NewEncoder(p.conn).Encode(api.BorrowAnswer{IsTaken: hasTaken}); err != nil && hasTaken {
		s.log.Warn("the other project has not waited for the answer; asking again who has the port", "service", p.name, "error", err)
		s.rebind(p.name)
	} else if !hasTaken && unused == nil { // on a busy machine: it may have bound its port with them by now, and the other project keeps or gives it away
		s.log.Warn("the service has not bound its port in time; asking again who has it", "service", p.name)
		s.rebind(p.name)
	}
}

// receiveListeners receives the offered listeners for the next bind of the service.
func (s *Supervisor) receiveListeners(p *borrowedPort) error {
	_ = p.conn.SetDeadline(time.Now().Add(handOverTimeout))
	handed, err := handoff.AcceptOffer(p.conn)
	if err != nil {
		return err
	}
	if err = json.NewEncoder(p.conn).Encode(api.BorrowAnswer{IsReceived: true}); err == nil {
		_, err = p.readUpdate() // the confirmation; the end of the connection if the holder has not waited
	}
	for _, files := range handed.Files { // of one service
		if err != nil {
			closeFiles(files)
			continue
		}
		s.inherited.add(map[string][]*os.File{serviceHoldName(p.name): files})
	}
	return err
}

// rebind has a service give up its listeners, which another project may have been given too, and bind or borrow the port again.
func (s *Supervisor) rebind(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), passOnTimeout)
	defer cancel()
	if s.beginOperation(ctx) != nil {
		return
	}
	defer s.endOperation()
	if svc := s.active.Load().services[name]; svc != nil {
		svc.Stop()
		s.startAgain([]string{name})
	}
}

// awaitPort waits until a service has bound its port, and reports whether it has. It does not wait for one that is stopped.
func (s *Supervisor) awaitPort(name string) bool {
	limitCh := time.After(offerTimeout / 2) // the holder waits longer
	for {
		change := s.changes.Changed()
		svc := s.active.Load().services[name]
		if svc == nil || s.isClosing.Load() || svc.Snapshot().IsStopped() {
			return false
		}
		if svc.Snapshot().IsPortHeld() {
			return true
		}
		select {
		case <-change:
		case <-limitCh:
			return false
		case <-s.endedCh:
			return false
		}
	}
}

// maxUpdateSize limits a line from the holder, in bytes.
const maxUpdateSize = 64 << 10

// readUpdate reads one line, a byte at a time: descriptors may follow, and are lost if they are read with the line. After a deadline it can be
// called again.
func (p *borrowedPort) readUpdate() (api.BorrowUpdate, error) {
	for next := make([]byte, 1); len(p.line) < maxUpdateSize; {
		if _, err := io.ReadFull(p.conn, next); err != nil {
			return api.BorrowUpdate{}, err
		}
		if next[0] == '\n' {
			line := p.line
			p.line = nil
			var update api.BorrowUpdate
			return update, json.Unmarshal(line, &update)
		}
		p.line = append(p.line, next[0])
	}
	return api.BorrowUpdate{}, errors.New("the line is too long")
}

// awaitNextUpdate sets the time at which the next update is overdue, if the holder has said when it sends one. It is set once only: after an
// update that is overdue, the next one may take any time.
func (p *borrowedPort) awaitNextUpdate() {
	var deadline time.Time
	if p.nextWithin > 0 {
		deadline = time.Now().Add(p.nextWithin + overdueTime)
	}
	p.nextWithin = 0
	_ = p.conn.SetReadDeadline(deadline)
}

// overdueTime is how late an update may be before the holder is said not to respond.
const overdueTime = 5 * time.Second

// setUnresponsive changes the status to unhealthy until the next update: the holder accepts no client, and says nothing.
func (p *borrowedPort) setUnresponsive() {
	p.mu.Lock()
	p.status.State, p.status.LastError = forwarder.Unhealthy, "the supervisor of "+p.status.Project+" does not respond"
	p.status.Hint = "localport daemon restart"
	p.mu.Unlock()
	wait.Notify(p.changedCh)
}

func (p *borrowedPort) setStatus(u api.BorrowUpdate) {
	p.nextWithin = time.Duration(u.NextWithin * float64(time.Second))
	p.mu.Lock()
	p.status = service.SharedStatus{
		Project: u.Project, Service: u.Service, State: u.State, LastError: u.LastError, Hint: u.Hint, Target: u.Target,
		UpSince: u.UpSince, CheckedAt: u.Checked, Latency: time.Duration(u.Latency * float64(time.Second)),
	}
	p.mu.Unlock()
	wait.Notify(p.changedCh)
}

// Status implements service.SharedPort.
func (p *borrowedPort) Status() service.SharedStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Changed implements service.SharedPort.
func (p *borrowedPort) Changed() <-chan struct{} { return p.changedCh }

// Done implements service.SharedPort.
func (p *borrowedPort) Done() <-chan struct{} { return p.doneCh }

// Close implements service.SharedPort.
func (p *borrowedPort) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isTakingOver {
		p.conn.Close()
	}
}
