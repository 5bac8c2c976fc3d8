package service

import "github.com/localport-sh/localport/forwarder/eventlog"

// NoRoomHint says what to do about a lack of file descriptors.
const NoRoomHint = `close some, or raise "ulimit -n" and start the project again`

// classify publishes that the file limit leaves no room for further clients, or that there is room again.
func (roomChanged) classify(s *Service) (event, bool) {
	if s.port == nil {
		return 0, false
	}
	e := eventlog.Event{Kind: eventlog.ClientLimitCleared, Service: s.name, Run: s.status.run}
	if noRoom := s.port.Stats().Shortage; noRoom != nil {
		e.Kind, e.Reason, e.Hint = eventlog.ClientLimitReached, noRoom.Error(), NoRoomHint
	}
	s.host.PublishEvent(e, s.status.state)
	s.host.OnChange()
	return 0, false
}
