package supervisor

import "github.com/localport-sh/localport/forwarder/filelimit"

// resizeClientSlots sets the limit on clients to what the file limit leaves beside the needs of the config and the leases.
func (s *Supervisor) resizeClientSlots(config *activeConfig) {
	s.clientSlots.Resize(filelimit.Current(), filelimit.Reserve(config.project.Services, len(s.store.state().Leases)))
}
