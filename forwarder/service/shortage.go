package service

import (
	"errors"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/relay"
)

// ShortageHint says what to do when a service can serve no further clients.
func ShortageHint(shortage error) string {
	if _, ok := errors.AsType[*relay.LimitError](shortage); ok {
		return "close some, or raise max_connections; a change takes effect at once"
	}
	return `close some, or raise "ulimit -n" and start the project again`
}

// apply publishes that further clients cannot be served, or that they can again.
func (shortageChangedInput) apply(s *Service) (event, bool) {
	if s.port == nil {
		return 0, false
	}
	e := eventlog.Event{Kind: eventlog.ClientLimitCleared, Service: s.name, Run: s.status.run}
	if shortage := s.port.Stats().Shortage; shortage != nil {
		e.Kind, e.Reason, e.Hint = eventlog.ClientLimitReached, shortage.Error(), ShortageHint(shortage)
	}
	s.host.PublishEvent(e, s.status.state)
	s.host.OnChange()
	return 0, false
}
