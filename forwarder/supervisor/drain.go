package supervisor

import (
	"context"
	"maps"
	"time"

	"github.com/localport-sh/localport/lockstate"
)

// maxKeepTime is how long established connections stay open after the ports have been closed, with linger = "connections".
const maxKeepTime = time.Hour

// openConnections counts the clients of each service that has any.
func (c *activeConfig) openConnections() map[string]int {
	open := make(map[string]int)
	for name, svc := range c.services {
		if stats := svc.Snapshot().Stats(); stats.Open+stats.Waiting > 0 {
			open[name] = stats.Open + stats.Waiting
		}
	}
	return open
}

// drain waits for the established connections that outlive the listeners of this supervisor: those of a replaced one until its successor
// ends, and with linger = "connections" those of an unused project for maxKeepTime.
func (s *Supervisor) drain(ctx context.Context) {
	s.mu.Lock()
	successorEndedCh := s.successorEndedCh
	s.mu.Unlock()
	if successorEndedCh != nil {
		s.drainConnections(ctx, successorEndedCh, time.Time{})
		s.keeper.disconnect()
		if s.isUnused() {
			s.keepUntil = s.connectionLimit(shutdownUnused)
		}
	}
	if !s.keepUntil.IsZero() {
		ctx, cancel := context.WithDeadline(ctx, s.keepUntil)
		defer cancel()
		s.drainConnections(ctx, nil, s.keepUntil)
	}
	s.drainRetired(ctx)
	s.recordDraining(ctx, lockstate.Draining{Process: s.self})
}

// connectionLimit is until when established connections may stay if the supervisor shuts down now; zero: they end.
func (s *Supervisor) connectionLimit(reason shutdownReason) time.Time {
	if reason != shutdownUnused || !s.active.Load().project.KeepConnections {
		return time.Time{}
	}
	return time.Now().Add(maxKeepTime)
}

// isUnused reports whether the project may have ended because nobody uses it: nobody has stopped it, and its directory is there.
func (s *Supervisor) isUnused() bool {
	return !s.dir.ReadOrZero().Down && lockstate.Identify(s.root()) != (lockstate.FileID{})
}

// recordDraining records the connections of this supervisor that are left, if their number has changed. A failure is only logged: the record is
// for "status" and "stop".
func (s *Supervisor) recordDraining(ctx context.Context, entry lockstate.Draining) {
	if recorded := s.recordedDrain; maps.Equal(entry.Connections, recorded.Connections) && entry.Until.Equal(recorded.Until) && entry.PassedOn == recorded.PassedOn {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	defer cancel()
	_, err := s.dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.SetDraining(entry)
		return nil
	})
	if err != nil {
		s.log.Warn("cannot record the connections that are left", "error", err)
	}
	s.recordedDrain = entry
}
