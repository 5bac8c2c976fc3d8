package supervisor

import "github.com/localport-sh/localport/forwarder/filelimit"

// resizeClientSlots has as many clients admitted as the file limit allows beside what the config and the shells need.
func (s *Supervisor) resizeClientSlots(p *activeConfig) {
	s.clientSlots.Resize(filelimit.Current(), filelimit.Reserve(p.project.Services, len(s.store.state().Leases)))
}
