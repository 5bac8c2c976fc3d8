package supervisor

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// Leases are read again after leaseInterval without an event, and after leaseRetry if reading them failed.
const (
	leaseInterval = 30 * time.Second
	leaseRetry    = time.Second
)

// Join records the lease and environment of a client and returns what it exports.
func (s *Supervisor) Join(ctx context.Context, request api.JoinRequest) (api.ProjectView, error) {
	if request.PIDFD != nil && request.Holder != nil && !s.isClosing.Load() {
		s.holdForeignLease(decodeLease(*request.Holder), request.PIDFD)
	} else if request.PIDFD != nil {
		request.PIDFD.Close()
	}
	request.PIDFD = nil
	if request.Lease != nil {
		lease := decodeLease(*request.Lease)
		s.store.add(func(state *lockstate.State) { state.AddLease(lease) })
	}
	if s.isClosing.Load() || s.active.Load() == nil {
		return api.ProjectView{}, api.ErrEnding
	}
	if request.Level != "" {
		if err := s.options.LogLevel.UnmarshalText([]byte(request.Level)); err != nil {
			return api.ProjectView{}, err
		}
	}
	if err := s.restore(ctx); err != nil {
		return api.ProjectView{}, err
	}
	s.waitOpened(ctx)
	if s.isClosing.Load() { // meanwhile
		return api.ProjectView{}, api.ErrEnding
	}
	line := s.store.recordLine(request.Line)
	wait.Notify(s.leasesChangedCh) // the lease is recorded before the next decision to shut down
	wait.Replace(s.joinCh, request)
	return s.view(line), nil
}

// openingTimeout is how long a client waits for ports that an operation is opening: a prompt waits for 2 s in all.
const openingTimeout = time.Second

// waitOpened waits until an operation has opened the ports of services that are already part of the config, so that the client's view has them.
func (s *Supervisor) waitOpened(ctx context.Context) {
	if !s.isOpening.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, openingTimeout)
	defer cancel()
	if s.beginOperation(ctx) == nil {
		s.endOperation()
	}
}

func decodeLease(l api.Lease) lockstate.Lease {
	return lockstate.Lease{
		Kind: lockstate.LeaseKind(l.Kind), Process: lockstate.Process{PID: l.PID, Start: l.StartTime}, Dir: l.Dir, Since: l.Since,
		PIDNamespace: l.PIDNamespace, NetNamespace: l.NetNamespace, Boot: l.Boot,
	}
}

// Leave releases a lease, if r names one, and has the leases read again. If it was the last one, the response says what becomes of open
// connections.
func (s *Supervisor) Leave(_ context.Context, r api.LeaveRequest) (api.LeaveResponse, error) {
	if r.Lease != nil {
		lease := decodeLease(*r.Lease)
		s.store.add(func(state *lockstate.State) { state.RemoveLeaseAsOf(lease, r.At) })
	}
	wait.Notify(s.leasesChangedCh)
	known, active := s.store.state(), s.active.Load()
	if known.PruneLeases(); r.Lease == nil || len(known.Leases) > 0 || active == nil || s.isClosing.Load() {
		return api.LeaveResponse{}, nil
	}
	response := api.LeaveResponse{Linger: active.project.Linger.Seconds(), KeepsPrograms: holder.CanFindClients}
	if active.project.KeepConnections {
		response.Keep = maxKeepTime.Seconds()
	}
	open := active.openConnections()
	for _, svc := range active.project.Services {
		if open[svc.Name] > 0 {
			response.Services = append(response.Services, api.OpenConnections{Name: svc.Name, Open: open[svc.Name]})
		}
	}
	return response, nil
}

// leaseCount is how many live leases a project has.
type leaseCount struct {
	own         int
	borrowed    int // of other projects
	unconfirmed int // of these: the borrower has asked an earlier supervisor, and not this one yet

	isDown bool // the user has stopped the project
}

// countLeases reads the leases, watches their processes, and counts them. If the file cannot be read, the cached leases count.
func (s *Supervisor) countLeases(ctx context.Context) (leaseCount, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err := s.store.refresh(ctx)
	state := s.store.state()
	state.PruneLeases()
	s.dropUnconfirmedLeases(&state)
	s.resizeClientSlots(s.active.Load())
	s.keepForeignLeases(state.Leases)
	s.leaseWatcher.setLeases(state.Leases, s.startTask, func() { wait.Notify(s.leasesChangedCh) })
	count := leaseCount{isDown: state.Down && err == nil}
	for _, lease := range state.Leases {
		if lease.Kind == lockstate.BorrowedLease {
			count.borrowed++
			if !s.loans.isBorrower(lease.Process) {
				count.unconfirmed++
			}
		} else {
			count.own++
		}
	}
	return count, err
}

// hasLeases reports whether a state, with the queued changes, has live leases.
func (s *Supervisor) hasLeases(tx *lockstate.Tx) bool {
	s.store.applyPending(&tx.State)
	tx.PruneLeases()
	return len(tx.Leases) > 0
}
