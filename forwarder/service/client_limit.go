package service

import "github.com/localport-sh/localport/forwarder/eventlog"

// ClientLimitHint says what to do when a service can accept no further clients for lack of file descriptors.
const ClientLimitHint = `close some, or raise "ulimit -n" and start the project again`

// apply publishes that the file limit allows no further clients, or allows them again.
func (clientLimitInput) apply(s *Service) (event, bool) {
	if s.port == nil {
		return 0, false
	}
	e := eventlog.Event{Kind: eventlog.ClientLimitCleared, Service: s.name, Run: s.status.run}
	if shortage := s.port.Stats().Shortage; shortage != nil {
		e.Kind, e.Reason, e.Hint = eventlog.ClientLimitReached, shortage.Error(), ClientLimitHint
	}
	s.host.PublishEvent(e, s.status.state)
	s.host.OnChange()
	return 0, false
}
