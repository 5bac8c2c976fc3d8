// Package command makes a tunnel of any program that listens on a port it is told. The program is started as it
// stands, never through a shell.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
	"github.com/localport-sh/localport/forwarder/holder"
	"github.com/localport-sh/localport/project"
)

// placeholder stands in the arguments for the port that the program is to listen on.
const placeholder = "{port}"

// Kind is the technology "command".
var Kind = forwarder.Kind{TechnologyType: project.TechnologyType{Name: project.Command}, New: New}

// New makes the technology of one service.
func New(svc project.Service) forwarder.Technology { return technology{argv: svc.Command} }

type technology struct{ argv []string }

// Target is the program's name. Its arguments may hold what is nobody's business.
func (t technology) Target() string { return "command " + filepath.Base(t.argv[0]) }

// Open starts the program and returns when it, or a process of its group, listens on the port that it was told.
func (t technology) Open(ctx context.Context, run forwarder.Run) (forwarder.Tunnel, error) {
	port, err := freePort()
	if err != nil {
		return nil, &forwarder.Failure{Reason: err.Error()}
	}
	argv := make([]string, len(t.argv))
	for i, arg := range t.argv {
		argv[i] = strings.ReplaceAll(arg, placeholder, strconv.Itoa(int(port)))
	}
	program, err := child.Start(child.Command{
		Argv: argv, Dir: run.Dir, Env: run.Env,
		Line: func(_ child.Stream, line string) { _, _ = io.WriteString(run.Log, line+"\n") },
	})
	if err != nil {
		return nil, child.Failure(err, "install it, or name it by its path")
	}
	tunnel := &tunnel{Child: program, name: filepath.Base(argv[0])}
	if err := tunnel.await(ctx, port); err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return tunnel, nil
}

// freePort is a port of the kernel's choice. It may be somebody else's by the time the program binds it; the program
// then says so.
func freePort() (uint16, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), l.Close()
}

// tunnel is one run of the program.
type tunnel struct {
	*child.Child
	name string
	addr netip.AddrPort
}

// The program's listener is looked for at first often, for many are quick, and then less so, for some take their time.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 250 * time.Millisecond
)

// await returns when the group listens on the port. Nothing tells of a new listener, so it polls.
func (t *tunnel) await(ctx context.Context, port uint16) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := firstLook; ; wait = min(wait*3/2, lastLook) {
		select {
		case <-ctx.Done():
			return t.late(ctx, port)
		case <-t.Done():
			return t.failure()
		case <-timer.C:
		}
		// A program that listens on "localhost" may have chosen either of its addresses.
		for _, host := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			if at := netip.AddrPortFrom(host, port); holder.InGroup(t.Pid(), at) {
				t.addr = at
				return nil
			}
		}
		timer.Reset(wait)
	}
}

// late says what was waited for in vain.
func (t *tunnel) late(ctx context.Context, port uint16) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	reason := fmt.Sprintf("%s runs, but does not listen on port %d", t.name, port)
	return &forwarder.Failure{Reason: reason + said(t.LastWords())}
}

// failure says how the program ended.
func (t *tunnel) failure() error {
	return &forwarder.Failure{Reason: fmt.Sprintf("%s ended: %s", t.name, t.Status()) + said(t.LastWords())}
}

// said is the end of what a program printed.
func said(words []string) string {
	if len(words) == 0 {
		return ", and it printed nothing"
	}
	return ": " + strings.Join(words[max(0, len(words)-3):], "; ")
}

// Dial connects to the program. A refused connection is a refusal while the program lives.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.addr.String())
	if err == nil {
		return conn, nil
	}
	select {
	case <-t.Done():
		return nil, net.ErrClosed
	default:
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &forwarder.Refusal{Reason: fmt.Sprintf("%s: connection refused", t.name), Connect: true}
	}
	return nil, err
}

// Refusals is nil: what the program prints is its own affair.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }

// Acknowledges is false: the program may accept with nothing behind it.
func (t *tunnel) Acknowledges() bool { return false }

// Err says how the program ended.
func (t *tunnel) Err() error {
	if t.Stopped() {
		return nil
	}
	return t.failure()
}
