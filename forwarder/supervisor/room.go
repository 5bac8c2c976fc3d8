package supervisor

import (
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/journal"
)

// roomHint is what a user can do about a shortage of file descriptors.
const roomHint = `close some, or raise "ulimit -n" and start the project again`

// announceRoom makes known that there is no room for more of a service's clients, or room again.
func (f *forward) announceRoom() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relay == nil {
		return
	}
	e := journal.Event{Kind: journal.Room, Service: f.name, Run: f.status.run}
	if noRoom := f.relay.Stats().NoRoom; noRoom != nil {
		e.Kind, e.Reason, e.Hint = journal.NoRoom, noRoom.Error(), roomHint
	}
	f.tell(e, f.status.state)
	f.changes.tell()
}

// resizeSeats has as many clients admitted as the file limit allows beside what the config and the shells need. s.mu is
// held.
func (s *Supervisor) resizeSeats() {
	s.seats.Resize(filelimit.Current(), filelimit.Reserve(s.project.Services, len(s.state.Leases)))
}
