// Package tcp connects directly to a far end that this machine can reach. There is no process; each client's connection is dialed
// on its own.
package tcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// Technology registers "tcp".
var Technology = forwarder.Technology{
	TechnologyType: project.TechnologyType{
		Name: "tcp", HasRemotePort: true,
		Keys: []project.Key{{
			Name: "remote_host", Type: project.TypeWord, Required: true, Aliases: []string{"host", "hostname", "address", "target", "target_host", "destination", "server"}, Validate: project.ValidateHost("remote_port"),
		}},
	},
	New: New,
}

// New returns a driver. Services share nothing.
func New(context.Context, forwarder.Host) forwarder.Driver { return driver{} }

type driver struct{}

// remoteAddr returns the address of a service's far end.
func remoteAddr(svc project.Service) string {
	return net.JoinHostPort(svc.Connection.Settings.Text("remote_host"), svc.RemotePort)
}

// Target returns the address that is dialed.
func (driver) Target(svc project.Service) string { return "tcp " + remoteAddr(svc) }

// TargetKey is the address. A name is resolved for each connection, and on one machine to the same addresses.
func (driver) TargetKey(svc project.Service, _ forwarder.Run) ([]string, bool) {
	return []string{strings.ToLower(remoteAddr(svc))}, true
}

// Open fails only if the far end is the service's own local address, which would be an endless loop.
func (driver) Open(ctx context.Context, svc project.Service, _ forwarder.Run) (forwarder.Tunnel, error) {
	t := &tunnel{addr: remoteAddr(svc), relay: newRelayAddrs(svc), doneCh: make(chan struct{})}
	if err := t.relay.checkLoop(ctx, t.addr); err != nil {
		return nil, err
	}
	return t, nil
}

// Close does nothing and returns nil.
func (driver) Close() error { return nil }

type tunnel struct {
	addr      string
	relay     relayAddrs
	closeOnce sync.Once
	doneCh    chan struct{}
}

// Dial resolves the name and tries its addresses. Every failed connect is a *forwarder.Refusal.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	if wait.IsClosed(t.doneCh) {
		return nil, net.ErrClosed
	}
	dialer := net.Dialer{Control: func(_, address string, socket syscall.RawConn) error {
		addr, err := netip.ParseAddrPort(address)
		if err == nil && t.relay.contains(addr) {
			return errLoop // the name resolves to it since Open
		}
		if err := limitConnectTime(socket); err != nil {
			return err
		}
		if addr.Addr().Unmap().IsLoopback() {
			return connectLoopback(socket, addr)
		}
		return nil
	}}
	conn, err := dialer.DialContext(ctx, "tcp", t.addr)
	if err == nil {
		return conn, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	return nil, &forwarder.Refusal{Reason: t.addr + ": " + shortReason(err), Hint: t.dialHint(err), IsConnectFailure: true}
}

// dialHint is the next step after a failed connect; empty if none is known.
func (t *tunnel) dialHint(err error) string {
	host, _, _ := net.SplitHostPort(t.addr)
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS && net.ParseIP(host) == nil:
		return fmt.Sprintf("correct remote_host, or connect to the network or VPN that knows %s", host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("start the server on %s, or correct remote_host and remote_port", t.addr)
	case errors.Is(err, errLoop):
		return "correct remote_host, or choose another local_port"
	case shortReason(err) == timedOut, errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "check the network, the VPN and the firewalls on the way to " + host
	}
	return ""
}

const timedOut = "timed out"

// shortReason returns the cause of a dial error, without the address and the operations that package net puts before it.
func shortReason(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return call.Err.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if op.Timeout() {
			return timedOut
		}
		return op.Err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return timedOut
	}
	return err.Error()
}

// Refusals returns nil: Dial itself returns refusals.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }

// Acknowledges returns true: Dial connects to the far end itself.
func (t *tunnel) Acknowledges() bool { return true }

// Done is closed by Close only.
func (t *tunnel) Done() <-chan struct{} { return t.doneCh }

// Err returns nil.
func (t *tunnel) Err() error { return nil }

// Close ends the tunnel. Connections stay open: their owners close them.
func (t *tunnel) Close() error {
	t.closeOnce.Do(func() { close(t.doneCh) })
	return nil
}

// limitConnectTime makes an unanswered connect fail after 3 or 4 s (connectLimitOption). By default the kernel retries for minutes with
// growing delays, so that a waiting client would notice late that the network is back. The relay retries each second, and status shows
// the reason meanwhile.
func limitConnectTime(socket syscall.RawConn) error {
	var optionErr error
	err := socket.Control(func(fd uintptr) {
		optionErr = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, connectLimitOption, connectLimit))
	})
	return cmp.Or(err, optionErr)
}

var errLoop = errors.New("this is the service's own local address")

// relayAddrs are the addresses on which the service's relay listens.
type relayAddrs struct {
	port  uint16
	hosts []netip.Addr
}

func newRelayAddrs(svc project.Service) relayAddrs {
	hosts := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	if svc.LocalAddress.IsValid() {
		hosts = []netip.Addr{svc.LocalAddress.Unmap()}
	}
	return relayAddrs{port: uint16(svc.LocalPort), hosts: hosts}
}

// contains reports whether a connection to addr would reach the relay. Connecting to the unspecified address reaches the loopback
// one.
func (r relayAddrs) contains(addr netip.AddrPort) bool {
	host := addr.Addr().Unmap()
	switch host {
	case netip.IPv4Unspecified():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		host = netip.IPv6Loopback()
	}
	return addr.Port() == r.port && slices.Contains(r.hosts, host)
}

// loopRecheckInterval is the time between resolutions of a name that leads back to the service: its address may change.
const loopRecheckInterval = time.Minute

// checkLoop returns a *forwarder.Failure if addr is an address of the relay. A name is resolved only if the port is the relay's; a
// name that cannot be resolved is reported by Dial.
func (r relayAddrs) checkLoop(ctx context.Context, addr string) error {
	host, port, _ := net.SplitHostPort(addr)
	if port != strconv.Itoa(int(r.port)) {
		return nil
	}
	ips, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips {
		if r.contains(netip.AddrPortFrom(ip, r.port)) {
			return &forwarder.Failure{
				Class:        forwarder.Permanent,
				RecheckAfter: loopRecheckInterval,
				Reason:       fmt.Sprintf("%s: %v", addr, errLoop),
				Hint:         `choose another local_port, or a local_address such as "127.0.0.2"`,
			}
		}
	}
	return ctx.Err()
}
