package supervisor

import (
	"maps"
	"slices"
)

// closePorts closes every listener and the control socket, and the keeper's copies of them.
func (s *Supervisor) closePorts() {
	s.keeper.endKeeper()
	active := s.active.Load()
	active.stopServices(slices.Collect(maps.Keys(active.services)))
	s.socket.close()
}

// closePortsForElected closes the ports for the elected supervisor, which retries to bind them every second. It writes no state.
func (s *Supervisor) closePortsForElected() {
	s.isClosing.Store(true)
	s.closePorts()
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
