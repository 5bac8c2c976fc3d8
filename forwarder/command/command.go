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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// placeholder stands in the arguments for the port that the program is to listen on.
const placeholder = "{port}"

// Technology is "command".
var Technology = forwarder.Technology{TechnologyType: project.TechnologyType{Name: "command", Keys: keys}, New: New, Login: login}

// keys stand beside connection.
var keys = []project.Key{
	{
		Name: "command", Is: project.Texts, Top: true, Required: true, Valid: holdsPort,
		Example: `, as in ["cloud-sql-proxy", "--port", "{port}", "proj:region:inst"]`,
	},
	{Name: "ready", Is: project.Expression, Top: true},       // the program is up when a line of its fits; without it: when it listens
	{Name: "needs_login", Is: project.Expression, Top: true}, // a line of its that fits says that the user must log in
	{Name: "login", Is: project.Texts, Top: true},            // what logs the user in, on a terminal
}

func holdsPort(value any) error {
	holds := func(arg string) bool { return strings.Contains(arg, placeholder) }
	if !slices.ContainsFunc(value.([]string), holds) {
		return errors.New("one of the arguments must hold {port}, the port that the command is to listen on")
	}
	return nil
}

// New makes a driver, which shares nothing among services.
func New(context.Context, forwarder.Host) forwarder.Driver { return driver{} }

type driver struct{}

// Target is the program's name. Its arguments may hold what is nobody's business.
func (driver) Target(svc project.Service) string {
	return "command " + filepath.Base(svc.Connection.Settings.Texts("command")[0])
}

// Close has nothing to end.
func (driver) Close() error { return nil }

// spec is what a service says of its program.
type spec struct {
	name              string // of the service
	argv              []string
	ready, needsLogin *regexp.Regexp // nil: the program does not say it
	login             bool           // there is a program that logs the user in
}

func specOf(svc project.Service) spec {
	given := svc.Connection.Settings
	s := spec{name: svc.Name, argv: given.Texts("command"), login: len(given.Texts("login")) > 0}
	// The config has seen to it that they can be compiled.
	if ready := given.Text("ready"); ready != "" {
		s.ready, _ = regexp.Compile(ready)
	}
	if needsLogin := given.Text("needs_login"); needsLogin != "" {
		s.needsLogin, _ = regexp.Compile(needsLogin)
	}
	return s
}

// Open starts the program and returns when it, or a process of its group, listens on the port that it was told, and has said
// that it is ready where that is known.
func (driver) Open(ctx context.Context, svc project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	s := specOf(svc)
	port, err := freePort()
	if err != nil {
		return nil, &forwarder.Failure{Reason: err.Error()}
	}
	argv := make([]string, len(s.argv))
	for i, arg := range s.argv {
		argv[i] = strings.ReplaceAll(arg, placeholder, strconv.Itoa(int(port)))
	}
	tunnel := &tunnel{spec: s, program: filepath.Base(argv[0]), log: run.Log, up: make(chan struct{}), started: make(chan struct{})}
	if s.ready == nil {
		close(tunnel.up)
	}
	program, err := process.Start(process.Command{Argv: argv, Dir: run.Dir, Env: run.Env, OnLine: tunnel.line})
	if err != nil {
		return nil, process.ClassifyStartError(err, "install it, or name it by its path")
	}
	tunnel.Child = program
	close(tunnel.started)
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
	*process.Child
	spec
	program string
	log     io.Writer
	addr    netip.AddrPort
	started chan struct{} // closed when there is a Child
	up      chan struct{} // closed when the program has said that it is ready

	// What line has understood; to be read by others after Done.
	said   bool   // up is closed by it
	locked string // the line that says that the user must log in
}

// line takes what the program prints.
func (t *tunnel) line(_ process.Stream, line string) {
	_, _ = io.WriteString(t.log, line+"\n")
	if t.ready != nil && !t.said && t.ready.MatchString(line) {
		t.said = true
		close(t.up)
	}
	if t.needsLogin != nil && t.locked == "" && t.needsLogin.MatchString(line) {
		t.locked = line
		<-t.started
		t.Kill()
	}
}

// The program's listener is looked for at first often, for many are quick, and then less so, for some take their time.
var looks = wait.Backoff{First: 5 * time.Millisecond, Max: 250 * time.Millisecond, Factor: 1.5}

// await returns when the group listens on the port. Nothing tells of a new listener, so it polls.
func (t *tunnel) await(ctx context.Context, port uint16) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := looks; ; {
		select {
		case <-ctx.Done():
			return t.late(ctx, port)
		case <-t.Done():
			return t.failure()
		case <-timer.C:
		}
		// A program that listens on "localhost" may have chosen either of its addresses.
		for _, host := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			if at := netip.AddrPortFrom(host, port); holder.GroupListensOn(t.Pid(), at) {
				t.addr = at
				return t.awaitWord(ctx, port)
			}
		}
		timer.Reset(pause.Next())
	}
}

// awaitWord returns when the program that listens has said that it is ready.
func (t *tunnel) awaitWord(ctx context.Context, port uint16) error {
	select {
	case <-t.up:
		return nil
	case <-t.Done():
		return t.failure()
	case <-ctx.Done():
		return t.late(ctx, port)
	}
}

// late says what was waited for in vain.
func (t *tunnel) late(ctx context.Context, port uint16) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	reason := fmt.Sprintf("%s runs, but does not listen on port %d", t.program, port)
	if t.addr.IsValid() {
		reason = fmt.Sprintf("%s listens on port %d, but has not said that it is ready, which would be a line that fits %q", t.program, port, t.ready)
	}
	return &forwarder.Failure{Reason: reason + said(t.LastLines())}
}

// failure says how the program ended.
func (t *tunnel) failure() error {
	if t.locked != "" {
		hint := fmt.Sprintf("log in as it says, then: localport restart %s", t.name)
		if t.login {
			hint = "localport login " + t.name
		}
		return &forwarder.Failure{Class: forwarder.ByAttention, Reason: fmt.Sprintf("%s needs a login: %s", t.program, t.locked), Hint: hint}
	}
	return &forwarder.Failure{Reason: fmt.Sprintf("%s ended: %s", t.program, t.ExitStatus()) + said(t.LastLines())}
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
		return nil, &forwarder.Refusal{Reason: fmt.Sprintf("%s: connection refused", t.program), Connect: true}
	}
	return nil, err
}

// Refusals is nil: what the program prints is its own affair.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }

// Acknowledges is false: the program may accept with nothing behind it.
func (t *tunnel) Acknowledges() bool { return false }

// Err says how the program ended.
func (t *tunnel) Err() error {
	if t.WasStopped() {
		return nil
	}
	return t.failure()
}
