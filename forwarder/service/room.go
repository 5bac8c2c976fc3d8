package service

import "github.com/localport-sh/localport/forwarder/eventlog"

// RoomHint is what a user can do about a shortage of file descriptors.
const RoomHint = `close some, or raise "ulimit -n" and start the project again`

// classify reports that there is no room for further clients of the service, or that there is again.
func (roomChanged) classify(s *Service) (event, bool) {
	if s.port == nil {
		return 0, false
	}
	e := eventlog.Event{Kind: eventlog.ClientLimitCleared, Service: s.name, Run: s.status.run}
	if noRoom := s.port.Stats().NoRoom; noRoom != nil {
		e.Kind, e.Reason, e.Hint = eventlog.ClientLimitReached, noRoom.Error(), RoomHint
	}
	s.host.Report(e, s.status.state)
	s.host.OnChange()
	return 0, false
}
