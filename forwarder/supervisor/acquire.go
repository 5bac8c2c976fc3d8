package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/holder"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// rebind is how often a port that something else has is tried again.
const rebind = time.Second

// acquire gets the port and puts the relay on it. Where it cannot, the state says who has the port.
func (f *forward) acquire(ctx context.Context) bool {
	listeners, err := f.bind(ctx, f.svc)
	if err != nil {
		reason, hint := whyNot(err, f.svc)
		f.trouble(forwarder.Failed, reason, hint)
		return false
	}
	f.put(listeners)
	return true
}

// acquireLater tries again until it has the port; false when the forward is to end before.
func (f *forward) acquireLater(ctx context.Context) bool {
	tick := time.NewTicker(rebind)
	defer tick.Stop()
	for {
		ordered := false
		select {
		case <-ctx.Done():
			return false
		case o := <-f.orders:
			ordered = true
			_ = f.obey(o) // the definition; the attempt waits for the port
		case <-tick.C:
		}
		listeners, err := f.bind(ctx, f.svc)
		if err != nil {
			if ordered { // whoever gave the order waits for an answer
				reason, hint := whyNot(err, f.svc)
				f.trouble(forwarder.Failed, reason, hint)
			}
			continue // the state goes on saying who had it first
		}
		f.put(listeners)
		f.trouble(f.rest.state(f), "", "")
		f.bound()
		return true
	}
}

func (f *forward) put(listeners *relay.Listeners) {
	r := relay.New(listeners, relay.Options{
		ConnectTimeout: f.svc.ConnectTimeout,
		OnWaiting:      func() { nudge(f.waiting) },
		OnProof:        func(t forwarder.Tunnel) { f.about(t, func() { nudge(f.proved) }) },
		OnQuiet:        func() { nudge(f.quiet); nudge(f.calm) },
		OnBroken: func(t forwarder.Tunnel, failure *forwarder.Failure, stack []byte) {
			f.about(t, func() { f.broken(failure, stack) })
		},
		OnRefusal: func(t forwarder.Tunnel, refusal forwarder.Refusal) {
			f.about(t, func() {
				select {
				case f.refused <- refusal:
				default: // the loop has enough of them to know
				}
			})
		},
		OnRoomChange: f.announceRoom,
		Seats:        f.seats,
		Log:          f.log.With("service", f.svc.Name),
	})
	f.mu.Lock()
	f.relay = r
	f.mu.Unlock()
	f.keeping.hold(keptService(f.name), listeners.Files)
}

// about passes a signal of the relay's on to the loop if it is about the tunnel that the loop carries, or about the relay
// itself.
func (f *forward) about(tunnel forwarder.Tunnel, signal func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if tunnel == nil || tunnel == f.carried {
		signal()
	}
}

// carries drops what was signalled about the tunnel before, which ended before the loop came to it.
func (f *forward) carries(tunnel forwarder.Tunnel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.carried = tunnel
	for {
		select {
		case <-f.refused:
		case <-f.proved:
		case failure := <-f.broke:
			_ = failure // what broke is logged already
		default:
			return
		}
	}
}

// drop closes the relay, and with it every connection.
func (f *forward) drop() {
	f.mu.Lock()
	r := f.relay
	f.relay = nil
	f.mu.Unlock()
	if r != nil {
		f.keeping.drop(keptService(f.name))
		_ = r.Close()
	}
}

// bind gets the listeners of a service; a project that nobody is in any more gives up its own.
func (s *Supervisor) bind(ctx context.Context, svc project.Service) (*relay.Listeners, error) {
	if inherited := s.inherited.listeners(svc); inherited != nil {
		return inherited, nil
	}
	listeners, err := relay.Bind(svc.Listens())
	var taken *relay.TakenError
	if !errors.As(err, &taken) || !s.askOthers(ctx, taken.Addr) {
		return listeners, err
	}
	return relay.Bind(svc.Listens())
}

// askOthers asks this user's other supervisors for an address.
func (s *Supervisor) askOthers(ctx context.Context, addr netip.AddrPort) bool {
	const patience = 500 * time.Millisecond
	dirs, err := lockstate.All()
	if err != nil {
		return false
	}
	for _, dir := range dirs {
		other := dir.Peek().Supervisor
		if dir.Config == s.dir.Config || other == nil || !other.Alive() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		yielded, err := control.Client{Socket: other.Socket}.Yield(ctx, []string{addr.String()})
		cancel()
		if err == nil && yielded {
			s.log.Info("another project gave its ports up", "project", dir.Config, "address", addr)
			return true
		}
	}
	return false
}

// whyNot says why a port could not be had, who has it where the system tells, and what to do.
func whyNot(err error, svc project.Service) (reason, hint string) {
	var taken *relay.TakenError
	if !errors.As(err, &taken) {
		if errors.Is(err, os.ErrPermission) {
			return err.Error(), "ports below 1024 need root here: choose a higher local_port"
		}
		return err.Error(), ""
	}
	reason = fmt.Sprintf("%s is taken", taken.Addr)
	if h, ok := holder.Of(taken.Addr); ok {
		reason += " by " + name(h)
	}
	return reason, fmt.Sprintf(
		`end it, or for %s set local_port = "auto", another local_address, or either in %s; it is tried again every second`,
		svc.Name, project.LocalName)
}

// name says who holds a port: another project of this user's by its directory, anything else by name and pid.
func name(h holder.Holder) string {
	if h.PID == 0 {
		return fmt.Sprintf("a process of uid %d", h.UID)
	}
	dirs, _ := lockstate.All()
	for _, dir := range dirs {
		if other := dir.Peek().Supervisor; other != nil && (other.PID == h.PID || other.Keeper == h.PID) {
			return fmt.Sprintf("the project of %s (localport, pid %d)", dir.Config, other.PID)
		}
	}
	return fmt.Sprintf("%s (pid %d)", h.Name, h.PID)
}
