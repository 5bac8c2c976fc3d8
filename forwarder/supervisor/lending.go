package supervisor

import (
	"bufio"
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// loan is a service of this project that another project of the user shares.
type loan struct {
	service    string
	request    api.BorrowRequest
	borrower   lockstate.Process
	offerCh    chan offer    // asks serveLoan to offer the listeners
	revokedCh  chan struct{} // closed by revoke
	revokeOnce sync.Once
	doneCh     chan struct{} // closed when serveLoan has ended
}

// offer asks a borrower to take over listeners.
type offer struct {
	files     []*os.File
	hasTaken  chan<- bool
	serviceAs string // the name under which they are sent
}

// revoke ends the loan: the borrower binds the port itself, or borrows it again.
func (l *loan) revoke() { l.revokeOnce.Do(func() { close(l.revokedCh) }) }

// loans are the loans of a supervisor, the oldest first. It is safe for concurrent use.
type loans struct {
	mu  sync.Mutex // guards all
	all []*loan
}

func (ls *loans) add(l *loan) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.all = append(ls.all, l)
}

func (ls *loans) remove(l *loan) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.all = slices.DeleteFunc(ls.all, func(other *loan) bool { return other == l })
}

// list returns the loans.
func (ls *loans) list() []*loan {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Clone(ls.all)
}

// ofService returns the loans of a service, the oldest first.
func (ls *loans) ofService(name string) []*loan {
	return slices.DeleteFunc(ls.list(), func(l *loan) bool { return l.service != name })
}

// byBorrowerAge sorts loans: those of the process that has the oldest loan of any service come first.
func (ls *loans) byBorrowerAge(loans []*loan) []*loan {
	all := ls.list()
	age := func(l *loan) int {
		return slices.IndexFunc(all, func(other *loan) bool { return other.borrower == l.borrower })
	}
	return slices.SortedStableFunc(slices.Values(loans), func(a, b *loan) int { return age(a) - age(b) })
}

// services returns the names of the services that are lent.
func (ls *loans) services() []string {
	var names []string
	for _, l := range ls.list() {
		if !slices.Contains(names, l.service) {
			names = append(names, l.service)
		}
	}
	return names
}

// isBorrower reports whether a process has a loan.
func (ls *loans) isBorrower(p lockstate.Process) bool {
	return slices.ContainsFunc(ls.list(), func(l *loan) bool { return l.borrower == p })
}

// Borrow returns a function that shares a service with another project on a connection, and closes the connection. The error is an
// *api.NotSharedError if the service leads to another target, api.ErrEnding, or says that no service listens there.
func (s *Supervisor) Borrow(r api.BorrowRequest) (func(context.Context, *net.UnixConn), error) {
	active := s.active.Load()
	if active == nil || s.isClosing.Load() {
		return nil, api.ErrEnding
	}
	svc := active.findListener(r.Addresses)
	if svc == nil {
		return nil, errNotListening
	}
	now := svc.Snapshot()
	digest, ok := s.targetDigest(now.Service, now.Driver, time.Time{}, r.Nonce)
	if !ok || !hmac.Equal(digest, r.Digest) || !slices.Equal(addressTexts(now.Service), r.Addresses) {
		return nil, &api.NotSharedError{Project: s.root(), Service: now.Service.Name, Target: s.mask(now.Target)}
	}
	l := &loan{
		service: now.Service.Name, request: r, borrower: lockstate.Process{PID: r.PID, Start: r.Start},
		offerCh: make(chan offer), revokedCh: make(chan struct{}), doneCh: make(chan struct{}),
	}
	return func(_ context.Context, conn *net.UnixConn) { s.serveLoan(conn, l) }, nil
}

var errNotListening = errors.New("no service of this project listens on these addresses")

// findListener returns the service that listens on one of the addresses; nil if none does.
func (c *activeConfig) findListener(addresses []string) *runningService {
	for _, svc := range c.services {
		now := svc.Snapshot()
		if !now.IsPortHeld() || now.Service.Reverse {
			continue
		}
		if slices.ContainsFunc(addressTexts(now.Service), func(addr string) bool { return slices.Contains(addresses, addr) }) {
			return svc
		}
	}
	return nil
}

// addressTexts are the addresses on which a service listens.
func addressTexts(svc project.Service) []string {
	addrs := svc.ListenAddresses()
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return texts
}

// loanStartTimeout is how long a borrower may take to begin, and loanWriteTimeout how long to read an update.
const (
	loanStartTimeout = 5 * time.Second
	loanWriteTimeout = 10 * time.Second
)

// loanKeepalive is the longest time between two updates, so that a borrower notices that the holder does not run, because it is stopped for
// example.
const loanKeepalive = 10 * time.Second

// serveLoan tells a borrower the status of the service, until one of the two ends the loan. Meanwhile the borrower has a lease.
func (s *Supervisor) serveLoan(conn *net.UnixConn, l *loan) {
	defer close(l.doneCh)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(loanStartTimeout))
	if _, err := conn.Read(make([]byte, 1)); err != nil || conn.SetReadDeadline(time.Time{}) != nil {
		return
	}
	s.addLoan(l)
	defer s.removeLoan(l)
	answerCh := make(chan api.BorrowAnswer, 2) // closed when the borrower has closed the connection
	wg.Go(func() {
		defer close(answerCh)
		for decoder := json.NewDecoder(bufio.NewReader(conn)); ; {
			var answer api.BorrowAnswer
			if decoder.Decode(&answer) != nil {
				return
			}
			trySend(answerCh, answer)
		}
	})
	encoder := json.NewEncoder(conn)
	keepalive := time.NewTicker(loanKeepalive)
	defer keepalive.Stop()
	isDue := false
	for last := (api.BorrowUpdate{}); ; {
		change := s.changes.Changed()
		now, isListening := s.loanUpdate(l)
		if !isListening {
			return
		}
		if now != last || isDue {
			isDue = false
			_ = conn.SetWriteDeadline(time.Now().Add(loanWriteTimeout))
			if encoder.Encode(now) != nil {
				return
			}
			if !now.UpSince.IsZero() && !now.UpSince.Equal(last.UpSince) && last.Service != "" {
				s.tasks.Go(func() { s.checkTarget(l) }) // the tunnel was opened again, and may lead elsewhere
			}
			last = now
		}
		select {
		case <-change:
		case <-keepalive.C:
			isDue = true
		case o := <-l.offerCh:
			o.hasTaken <- offerListeners(conn, encoder, o, answerCh)
			return
		case <-answerCh:
			return
		case <-l.revokedCh:
			return
		case <-s.endedCh:
			return
		}
	}
}

// loanUpdate is what a borrower is told; false if the service no longer has its port.
func (s *Supervisor) loanUpdate(l *loan) (api.BorrowUpdate, bool) {
	svc := s.active.Load().services[l.service]
	if svc == nil || !svc.Snapshot().IsPortHeld() {
		return api.BorrowUpdate{}, false
	}
	now := svc.Snapshot()
	return api.BorrowUpdate{
		Project: s.root(), Service: l.service, State: now.State, LastError: now.LastError, Hint: now.Hint, Target: s.mask(now.Target),
		UpSince: now.UpSince.Round(0), Checked: now.CheckedAt.Round(0), Latency: now.Latency.Seconds(), NextWithin: loanKeepalive.Seconds(),
	}, true
}

// offerListeners sends listeners to a borrower, and reports whether that accepts clients on them.
func offerListeners(conn *net.UnixConn, encoder *json.Encoder, o offer, answerCh <-chan api.BorrowAnswer) bool {
	_ = conn.SetDeadline(time.Now().Add(offerTimeout)) // after it answerCh is closed
	if encoder.Encode(api.BorrowUpdate{IsOffer: true}) != nil || handoff.Offer(conn, map[string][]*os.File{o.serviceAs: o.files}) != nil {
		return false
	}
	if answer := <-answerCh; !answer.IsReceived {
		return false
	}
	_ = conn.SetDeadline(time.Now().Add(offerTimeout))
	if encoder.Encode(api.BorrowUpdate{IsConfirmed: true}) != nil {
		return false
	}
	answer := <-answerCh
	return answer.IsTaken
}

// trySend sends a value unless the channel is full.
func trySend[T any](ch chan<- T, value T) {
	select {
	case ch <- value:
	default:
	}
}

// offerTimeout bounds an offer of listeners: a borrower that does not answer, because it is stopped for example, is not given them.
const offerTimeout = 2 * time.Second

// addLoan records a loan and the borrower's lease.
func (s *Supervisor) addLoan(l *loan) {
	s.loans.add(l)
	lease := lockstate.Lease{Kind: lockstate.BorrowedLease, Process: l.borrower, Dir: l.request.Project, Since: time.Now().UTC()}.Here()
	s.store.add(func(state *lockstate.State) { state.AddLease(lease) })
	wait.Notify(s.leasesChangedCh)
	s.log.Info("another project shares a service", "service", l.service, "project", l.request.Project, "pid", l.borrower.PID)
	s.keepLentUp(l.service)
}

// removeLoan drops a loan and, with the last one of its process, the lease: unless the supervisor ends, whose successor the borrower asks again.
func (s *Supervisor) removeLoan(l *loan) {
	s.loans.remove(l)
	s.log.Info("another project no longer shares a service", "service", l.service, "project", l.request.Project)
	if s.isClosing.Load() || s.isSuperseded.Load() {
		return
	}
	if !s.loans.isBorrower(l.borrower) {
		s.store.add(func(state *lockstate.State) { state.RemoveLease(lockstate.BorrowedLease, l.borrower) })
	}
	wait.Notify(s.leasesChangedCh) // the service may be of no use any more
	s.changes.Announce()
	s.keepLentUp(l.service)
}

// keepLentUp keeps the tunnel of a service on demand up while a borrower wants that.
func (s *Supervisor) keepLentUp(name string) {
	if svc := s.active.Load().services[name]; svc != nil {
		svc.SetKeptUp(slices.ContainsFunc(s.loans.ofService(name), func(l *loan) bool { return l.request.KeepUp }))
	}
}

// leaseConfirmTime is how long the lease of a borrower counts that has not yet asked this supervisor, but its predecessor.
const leaseConfirmTime = 15 * time.Second

// dropUnconfirmedLeases drops the leases of borrowers that have asked an earlier supervisor, and not this one.
func (s *Supervisor) dropUnconfirmedLeases(state *lockstate.State) {
	if time.Since(s.startedAt) < leaseConfirmTime {
		return
	}
	isUnconfirmed := func(lease lockstate.Lease) bool {
		return lease.Kind == lockstate.BorrowedLease && time.Since(lease.Since) > leaseConfirmTime && !s.loans.isBorrower(lease.Process)
	}
	for _, lease := range state.Leases {
		if isUnconfirmed(lease) {
			s.store.add(func(state *lockstate.State) { state.RemoveLease(lease.Kind, lease.Process) })
		}
	}
	state.Leases = slices.DeleteFunc(state.Leases, isUnconfirmed)
}

// hasLoanTarget reports whether a service still leads where a borrower wants it to.
func (s *Supervisor) hasLoanTarget(l *loan, svc project.Service, driver forwarder.Driver, requestedAt time.Time) bool {
	digest, ok := s.targetDigest(svc, driver, requestedAt, l.request.Nonce)
	return ok && hmac.Equal(digest, l.request.Digest)
}

// checkTarget passes a service on if its tunnel leads elsewhere now, because a kubeconfig was rewritten for example.
func (s *Supervisor) checkTarget(l *loan) {
	ctx, cancel := context.WithTimeout(context.Background(), passOnTimeout)
	defer cancel()
	if svc := s.active.Load().services[l.service]; svc == nil || s.hasLoanTarget(l, svc.Snapshot().Service, svc.Snapshot().Driver, time.Time{}) {
		return
	}
	if s.beginOperation(ctx) != nil {
		return // a change that is under way checks it too, or the supervisor ends
	}
	defer s.endOperation()
	active := s.active.Load()
	if svc := active.services[l.service]; svc == nil || s.hasLoanTarget(l, svc.Snapshot().Service, svc.Snapshot().Driver, time.Time{}) {
		return
	}
	isStarted := !active.services[l.service].Snapshot().IsStopped()
	if s.passOn([]string{l.service}); isStarted {
		s.startAgain([]string{l.service})
	}
}

// passOnTimeout bounds the wait for an operation before a service whose target has changed by itself is passed on.
const passOnTimeout = 30 * time.Second
