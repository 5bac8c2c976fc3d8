package supervisor

import (
	"maps"
	"slices"
	"time"
)

// closePorts closes every listener and the control socket, and the keeper's copies of them. Established connections stay
// until keepUntil, for drain; if that is zero, they end.
func (s *Supervisor) closePorts(keepUntil time.Time) {
	s.keepUntil = keepUntil
	s.keeper.endKeeper()
	if keepUntil.IsZero() {
		active := s.active.Load()
		active.stopServices(slices.Collect(maps.Keys(active.services)))
	} else {
		s.stopAccepting()
	}
	s.socket.close()
}

// closePortsForElected closes the ports for the elected supervisor, which retries to bind them every second. It writes no state.
func (s *Supervisor) closePortsForElected(keepUntil time.Time) {
	s.isClosing.Store(true)
	s.closePorts(keepUntil)
	_ = s.election.Handover()
	close(s.endedCh)
}

// stopAccepting closes this process's listeners: new connections wait in the queues of the copies.
func (s *Supervisor) stopAccepting() {
	for _, svc := range s.active.Load().services {
		if port := svc.Snapshot().Port(); port != nil {
			port.StopAccepting()
		}
	}
}
