// Package tcp reaches a far end that this machine can connect to by itself: there is no process, and every
// connection is dialled anew.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// Technology is "tcp".
var Technology = forwarder.Technology{
	TechnologyType: project.TechnologyType{
		Name: "tcp", HasRemotePort: true,
		Keys: []project.Key{{Name: "remote_host", Type: project.TypeWord, Required: true}},
	},
	Childless: true,
	New:       New,
}

// New makes a driver, which shares nothing among services.
func New(context.Context, forwarder.Host) forwarder.Driver { return driver{} }

type driver struct{}

// address is where a service leads.
func address(svc project.Service) string {
	return net.JoinHostPort(svc.Connection.Settings.Text("remote_host"), svc.RemotePort)
}

// Target is the address that is dialled.
func (driver) Target(svc project.Service) string { return "tcp " + address(svc) }

// Open fails only where the far end is the forward's own local address: that would be a loop without end.
func (driver) Open(ctx context.Context, svc project.Service, _ forwarder.Run) (forwarder.Tunnel, error) {
	t := &tunnel{addr: address(svc), relay: relayOf(svc), done: make(chan struct{})}
	if err := t.relay.reachedBy(ctx, t.addr); err != nil {
		return nil, err
	}
	return t, nil
}

// Close has nothing to end.
func (driver) Close() error { return nil }

type tunnel struct {
	addr  string
	relay relay
	end   sync.Once
	done  chan struct{}
}

// Dial looks the name up and tries its addresses.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-t.done:
		return nil, net.ErrClosed
	default:
	}
	dialer := net.Dialer{Control: func(_, address string, socket syscall.RawConn) error {
		if at, err := netip.ParseAddrPort(address); err == nil && t.relay.is(at) {
			return errLoop // the name has come to mean us since Open
		}
		return impatient(socket)
	}}
	conn, err := dialer.DialContext(ctx, "tcp", t.addr)
	if err == nil {
		return conn, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	return nil, &forwarder.Refusal{Reason: t.addr + ": " + plain(err), Connect: true}
}

// plain is what went wrong without the address and the steps that led there, which the caller names once.
func plain(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return call.Err.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if op.Timeout() {
			return "timed out"
		}
		return op.Err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timed out"
	}
	return err.Error()
}

// Refusals is nil: Dial itself refuses.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }

// Acknowledges is true: a connection was made.
func (t *tunnel) Acknowledges() bool { return true }

// Done is closed by Close alone.
func (t *tunnel) Done() <-chan struct{} { return t.done }

// Err is nil.
func (t *tunnel) Err() error { return nil }

// Close ends the tunnel; connections are their owners'.
func (t *tunnel) Close() error {
	t.end.Do(func() { close(t.done) })
	return nil
}

var errLoop = errors.New("this is the forward's own local address")

// relay is where the forward itself listens.
type relay struct {
	port  uint16
	hosts []netip.Addr
}

func relayOf(svc project.Service) relay {
	hosts := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	if svc.LocalAddress.IsValid() {
		hosts = []netip.Addr{svc.LocalAddress.Unmap()}
	}
	return relay{port: uint16(svc.LocalPort), hosts: hosts}
}

// is reports whether a connection to the address would come back to the relay. The unspecified address means the
// loopback one to a client.
func (r relay) is(at netip.AddrPort) bool {
	host := at.Addr().Unmap()
	switch host {
	case netip.IPv4Unspecified():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		host = netip.IPv6Loopback()
	}
	return at.Port() == r.port && slices.Contains(r.hosts, host)
}

// reachedBy says that an address is the relay's, as a *forwarder.Failure. A name is looked up only where the port is
// the same; one that cannot be is for Dial to tell.
func (r relay) reachedBy(ctx context.Context, addr string) error {
	host, port, _ := net.SplitHostPort(addr)
	if port != strconv.Itoa(int(r.port)) {
		return nil
	}
	found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range found {
		if r.is(netip.AddrPortFrom(ip, r.port)) {
			return &forwarder.Failure{
				Class:  forwarder.Permanent,
				Reason: fmt.Sprintf("%s: %v", addr, errLoop),
				Hint:   `choose another local_port, or a local_address such as "127.0.0.2"`,
			}
		}
	}
	return ctx.Err()
}
