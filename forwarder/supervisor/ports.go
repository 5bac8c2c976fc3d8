package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// keptPort is a service's port of which the keeper holds a copy.
type keptPort struct {
	*relay.Relay
	keeping *keeping
	copies  *kept // by the keeper
}

// Release closes the listeners here and the keeper's copies.
func (p *keptPort) Release() {
	p.keeping.drop(p.copies)
	p.StopAccepting()
}

// Close releases the port and resets every client.
func (p *keptPort) Close() error {
	p.StopAccepting()
	return p.Relay.Close()
}

// openPort gets the listeners of a service and accepts clients on them.
func (s *Supervisor) openPort(ctx context.Context, svc project.Service, o relay.Options) (service.Port, error) {
	listeners, err := s.bind(ctx, svc)
	if err != nil {
		return nil, err
	}
	return &keptPort{relay.New(listeners, o), s.keeping, s.keeping.hold(keptService(svc.Name), listeners.Files)}, nil
}

// bind gets the listeners of a service; a project that nobody is in any more gives up its own.
func (s *Supervisor) bind(ctx context.Context, svc project.Service) (*relay.Listeners, error) {
	if inherited := s.inherited.listeners(svc); inherited != nil {
		return inherited, nil
	}
	listeners, err := relay.BindListeners(svc.ListenAddresses())
	var taken *relay.AddrInUseError
	if !errors.As(err, &taken) || !s.askOthers(ctx, taken.Addr) {
		return listeners, err
	}
	return relay.BindListeners(svc.ListenAddresses())
}

// askOthers asks this user's other supervisors for an address.
func (s *Supervisor) askOthers(ctx context.Context, addr netip.AddrPort) bool {
	const limit = 500 * time.Millisecond
	dirs, err := lockstate.ListDirs()
	if err != nil {
		s.log.Warn("some projects cannot be asked for a port", "error", err)
	}
	for _, dir := range dirs {
		other := dir.Peek().Supervisor
		if dir.Config == s.dir.Config || other == nil || !other.Alive() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		yielded, err := client.Client{Socket: other.Socket}.Yield(ctx, []string{addr.String()})
		cancel()
		if err == nil && yielded {
			s.log.Info("another project gave its ports up", "project", dir.Config, "address", addr)
			return true
		}
	}
	return false
}

// announcePort tells prompts that a port that was not ours now is: its variables are to be exported.
func (s *Supervisor) announcePort() {
	s.running.Go(func() { s.save(bump, true) })
}

// explainPort says why a port could not be had, who has it where the system tells, and what to do.
func explainPort(err error, svc project.Service) (reason, hint string) {
	var taken *relay.AddrInUseError
	if !errors.As(err, &taken) {
		if errors.Is(err, os.ErrPermission) {
			return err.Error(), "ports below 1024 need root here: choose a higher local_port"
		}
		return err.Error(), ""
	}
	reason = fmt.Sprintf("%s is taken", taken.Addr)
	if h, ok := holder.Find(taken.Addr); ok {
		reason += " by " + holderName(h)
	}
	return reason, fmt.Sprintf(
		`end it, or for %s set local_port = "auto", another local_address, or either in %s; it is tried again every second`,
		svc.Name, project.LocalName)
}

// holderName says who holds a port: another project of this user's by its directory, anything else by name and pid.
func holderName(h holder.Holder) string {
	if h.PID == 0 {
		return fmt.Sprintf("a process of uid %d", h.UID)
	}
	dirs, _ := lockstate.ListDirs()
	for _, dir := range dirs {
		if other := dir.Peek().Supervisor; other != nil && (other.PID == h.PID || other.Keeper == h.PID) {
			return fmt.Sprintf("the project of %s (localport, pid %d)", dir.Config, other.PID)
		}
	}
	return fmt.Sprintf("%s (pid %d)", h.Name, h.PID)
}
