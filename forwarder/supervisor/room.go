package supervisor

import (
	"fmt"

	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/journal"
	"github.com/localport-sh/localport/forwarder/relay"
)

// roomHint is what a user can do about a shortage of file descriptors.
const roomHint = `close some, or raise "ulimit -n" and start the project again`

// newRelay accepts the clients of a service, which share the seats with those of all others.
func (s *Supervisor) newRelay(service string, listeners *relay.Listeners, o relay.Options) *relay.Relay {
	var r *relay.Relay
	made := make(chan struct{})
	o.Seats = s.seats
	o.OnRoomChange = func() {
		<-made
		s.announceRoom(service, r.Stats().NoRoom)
	}
	r = relay.New(listeners, o)
	close(made)
	return r
}

// announceRoom makes known why there is no room for more clients of a service, or that there is room again.
func (s *Supervisor) announceRoom(service string, noRoom error) {
	e := journal.Event{Kind: journal.Room, Service: service, Run: s.o.Run}
	if noRoom != nil {
		e.Kind, e.Reason, e.Hint = journal.NoRoom, noRoom.Error(), roomHint
	}
	s.news.tell(e, "")
	s.changes.Announce()
}

// resizeSeats has as many clients admitted as the file limit allows beside what the config and the shells need.
func (s *Supervisor) resizeSeats() {
	if p := s.plan.Load(); p != nil {
		s.seats.Resize(filelimit.Current(), filelimit.Reserve(p.project.Services, len(s.store.state().Leases)))
	}
}

// roomWarnings say which services have no room for more clients.
func roomWarnings(services []control.ServiceStatus) (warnings []string) {
	for _, svc := range services {
		if c := svc.Connections; c.NoRoom != "" {
			warnings = append(warnings, fmt.Sprintf("%s: %s: %d open, %d waiting; %s", svc.Name, c.NoRoom, c.Open, c.Unseated, roomHint))
		}
	}
	return warnings
}
