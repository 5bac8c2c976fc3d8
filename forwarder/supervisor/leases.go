package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/localport-sh/localport/lockstate"
)

// keep returns when the supervisor is to end: linger after the last lease, at once on a client's word, or with ctx.
func (s *Supervisor) keep(ctx context.Context) {
	linger := time.NewTimer(0)
	linger.Stop()
	defer linger.Stop()
	nudge(s.wake)
	alone := false
	for {
		select {
		case <-s.ended:
			return
		case <-ctx.Done():
			s.log.Info("ended by a signal")
			s.hush()
			return
		case <-s.wake:
			was := alone
			alone = s.look(ctx) == 0
			switch {
			case !alone:
				linger.Stop()
			case !was:
				linger.Reset(s.linger())
			}
		case <-linger.C:
			if s.retire(ctx, lastOut) {
				return
			}
			alone = false
			nudge(s.wake)
		}
	}
}

func (s *Supervisor) linger() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.project.Linger
}

// look reads the leases again, watches over the new ones, and returns how many count. The lock is not waited for with
// s.mu held: clients that are answered meanwhile do not wait for it too.
func (s *Supervisor) look(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	known := s.known()
	state, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		if tx.ID != known.ID {
			restore(tx, known)
		}
		tx.Prune()
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.log.Error("read the leases", "error", err)
		return len(s.state.Leases) // better one lease too many than a port refused
	}
	s.state.ID, s.state.Leases = state.ID, state.Leases
	s.watchLeases()
	s.resizeSeats()
	return len(state.Leases)
}

func (s *Supervisor) known() lockstate.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// restore writes what we know into a state that was lost and begun anew.
func restore(tx *lockstate.Tx, known lockstate.State) {
	for _, lease := range known.Leases {
		tx.Hold(lease)
	}
	tx.Supervisor, tx.Ports = known.Supervisor, known.Ports
	tx.Stopped, tx.Started, tx.Only = known.Stopped, known.Started, known.Only
	tx.Bump()
}

// watchLeases has one goroutine wait for the end of each process that holds a lease.
func (s *Supervisor) watchLeases() {
	now := make(map[lockstate.Process]bool, len(s.state.Leases))
	for _, lease := range s.state.Leases {
		if lease.Kind == lockstate.StartLease {
			continue
		}
		now[lease.Process] = true
		if s.watches[lease.Process] == nil {
			s.watchLease(lease.Process)
		}
	}
	for p, cancel := range s.watches {
		if !now[p] {
			cancel()
			delete(s.watches, p)
		}
	}
}

func (s *Supervisor) watchLease(p lockstate.Process) {
	ctx, cancel := context.WithCancel(s.work)
	s.watches[p] = cancel
	s.watched.Go(func() {
		if lockstate.WaitExit(ctx, p) == nil {
			nudge(s.wake)
		}
	})
}

// ending is why a supervisor gives its ports up.
type ending int

const (
	lastOut ending = iota // nobody holds a lease: unless somebody does after all
	ordered               // whoever holds a lease
)

// retire gives the ports up and resigns, under the lock and after one more look at the leases: whoever comes later
// finds nobody elected and free ports. Tunnels are still up when it returns. False if there are leases after all.
func (s *Supervisor) retire(ctx context.Context, why ending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	gone := false
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Prune()
		if why == lastOut && len(tx.Leases) > 0 {
			return errInUse
		}
		tx.Supervisor, tx.Stopped, tx.Started, tx.Only = nil, nil, nil, nil
		if why == ordered {
			tx.Down = true
		}
		tx.Bump()
		s.closePorts()
		gone = true
		return s.election.Resign()
	})
	if err != nil && !errors.Is(err, errInUse) {
		s.log.Error("end", "error", err)
	}
	if !gone {
		return false
	}
	s.closed = true // also where the disk is full: the ports are given up
	close(s.ended)
	return true
}

// hush gives the ports up without a word in the state: the next prompt is to find the supervisor gone and heal it.
func (s *Supervisor) hush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.closePorts()
	_ = s.election.Resign()
}

// closePorts closes every listener and the control socket, and the keeper's copies of them.
func (s *Supervisor) closePorts() {
	s.keeping.end()
	for _, f := range s.forwards {
		f.release()
	}
	_ = s.socket.Close()
}
