package supervisor

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/environ"
)

// leaseConnectedPrograms takes a lease for each program that was started in the project, by a shell or a command, and is connected to a service:
// an editor keeps the forwards when the shell that has started it is closed. It reports whether there are any. It is called when no lease is left
// and the linger is over, and reads /proc, for some milliseconds, only if a client is connected.
func (s *Supervisor) leaseConnectedPrograms(ctx context.Context) bool {
	active := s.active.Load()
	if active == nil || s.isClosing.Load() || s.isSuperseded.Load() || len(active.openConnections()) == 0 {
		return false
	}
	var names []string
	var leases []lockstate.Lease
	for _, client := range holder.FindClients(active.heldAddresses(), s.isStartedInProject) {
		if p, ok := lockstate.FindProcess(client.PID); ok {
			leases = append(leases, lockstate.Lease{Kind: lockstate.ProcessLease, Process: p, Since: time.Now().UTC()}.Here())
			names = append(names, client.String())
		}
	}
	if len(leases) == 0 {
		return false
	}
	s.log.Info("programs that were started in the project are connected; they get a lease", "programs", names)
	s.saveState(ctx, func(state *lockstate.State) {
		for _, lease := range leases {
			state.AddLease(lease)
		}
	}, false)
	wait.Notify(s.leasesChangedCh)
	return true
}

// heldAddresses are the addresses on which services listen.
func (c *activeConfig) heldAddresses() (addrs []netip.AddrPort) {
	for _, svc := range c.services {
		if now := svc.Snapshot(); now.IsPortHeld() {
			addrs = append(addrs, now.Service.ListenAddresses()...)
		}
	}
	return addrs
}

// isStartedInProject reports whether a process has the environment of this project, and is no process of a supervisor or of its tunnels.
func (s *Supervisor) isStartedInProject(pid int) bool {
	if pid == 1 || pid == os.Getpid() || pid == s.keeper.pid() {
		return false
	}
	text := holder.Environ(pid)
	if !strings.Contains(text, environ.DiffVariable+"=") {
		return false
	}
	env := environ.Parse(strings.Split(text, "\x00"))
	_, isTunnel := env.Lookup(forwarder.RunVariable)
	return !isTunnel && environ.ReadDiff(env).IsOf(s.options.Config)
}
