// Package command runs any program that listens on a given port as a tunnel. The program is executed directly, never through a
// shell.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// portPlaceholder is replaced in the arguments by the port that the program must listen on.
const portPlaceholder = "{port}"

// Technology registers "command".
var Technology = forwarder.Technology{TechnologyType: project.TechnologyType{Name: "command", Keys: configKeys}, New: New, Login: newLogin, VariableUse: variableUse, Preflight: preflight}

// preflight looks for the program.
func preflight(svc project.Service, run forwarder.Run) *forwarder.Failure {
	spec := process.Command{Argv: svc.Connection.Settings.TextList("command"), Dir: run.Dir, Env: run.Env}
	if _, err := process.LookPath(spec.Argv[0], spec.Env, spec.Dir); err != nil {
		return process.ClassifyStartError(err, spec, installHint())
	}
	return nil
}

// installHint is the next step if the program is missing.
func installHint() string {
	return "install it, or set its full path in command; " + project.HintLocal("path")
}

// variableUse says that a program uses every variable: all are in its environment, and nothing tells which it reads.
func variableUse(project.Service, string, []string) func(string) bool {
	return func(string) bool { return true }
}

// configKeys are keys of the service itself, not of its connection table.
var configKeys = []project.Key{
	{
		Name: "command", Type: project.TypeTextList, OutsideConnection: true, Required: true, Validate: requirePortPlaceholder,
		Example: `, for example ["cloud-sql-proxy", "--port", "{port}", "proj:region:inst"]`,
	},
	{Name: "ready", Type: project.TypeRegexp, OutsideConnection: true},       // a line that matches says that the program is ready; without it, listening is enough
	{Name: "needs_login", Type: project.TypeRegexp, OutsideConnection: true}, // a line that matches says that the user must log in
	{Name: "login", Type: project.TypeTextList, OutsideConnection: true},     // the program that logs the user in, on a terminal
}

func requirePortPlaceholder(value any) error {
	hasPlaceholder := func(arg string) bool { return strings.Contains(arg, portPlaceholder) }
	if !slices.ContainsFunc(value.([]string), hasPlaceholder) {
		return errors.New("one argument must contain {port}, the port that the command must listen on")
	}
	return nil
}

// New returns a driver. Services share nothing.
func New(context.Context, forwarder.Host) forwarder.Driver { return driver{} }

type driver struct{}

// Target returns the program's name without its arguments, which may hold secrets.
func (driver) Target(svc project.Service) string {
	return "command " + filepath.Base(svc.Connection.Settings.TextList("command")[0])
}

// Close does nothing and returns nil.
func (driver) Close() error { return nil }

// programSpec is the part of a service's config that its program needs.
type programSpec struct {
	name                       string // of the service
	argv                       []string
	readyPattern, loginPattern *regexp.Regexp // nil: not configured
	hasLogin                   bool           // a login program is configured
}

func newProgramSpec(svc project.Service) programSpec {
	settings := svc.Connection.Settings
	s := programSpec{name: svc.Name, argv: settings.TextList("command"), hasLogin: len(settings.TextList("login")) > 0}
	// The config has validated both expressions.
	if ready := settings.Text("ready"); ready != "" {
		s.readyPattern, _ = regexp.Compile(ready)
	}
	if needsLogin := settings.Text("needs_login"); needsLogin != "" {
		s.loginPattern, _ = regexp.Compile(needsLogin)
	}
	return s
}

// Open starts the program and returns when it, or a process that it has started, listens on the given port and, if ready is configured,
// has printed a matching line.
func (driver) Open(ctx context.Context, svc project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	s := newProgramSpec(svc)
	port, err := freePort()
	if err != nil {
		return nil, &forwarder.Failure{Reason: err.Error()}
	}
	argv := make([]string, len(s.argv))
	for i, arg := range s.argv {
		argv[i] = strings.ReplaceAll(arg, portPlaceholder, strconv.Itoa(int(port)))
	}
	tunnel := &tunnel{programSpec: s, id: run.ID, dir: run.SocketDir, port: port, program: filepath.Base(argv[0]), log: run.Log, readyCh: make(chan struct{}), startedCh: make(chan struct{})}
	if s.readyPattern == nil {
		close(tunnel.readyCh)
	}
	spec := process.Command{
		Argv: argv, Dir: run.Dir, Env: append(slices.Clip(run.Env), forwarder.TunnelVariable+"="+run.ID), OnLines: tunnel.handleLines,
	}
	program, err := process.Start(spec)
	if err != nil {
		return nil, process.ClassifyStartError(err, spec, installHint())
	}
	tunnel.Child = program
	close(tunnel.startedCh)
	if err := tunnel.waitReady(ctx, port); err != nil {
		_ = tunnel.Close()
		return nil, tunnel.explainDetached(err)
	}
	return tunnel, nil
}

// freePort returns a port that is free now. Another process may bind it before the program does; then the program's output says so.
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
	programSpec
	id      string // of the run
	dir     string // of the run; empty: none
	port    uint16 // that the program must listen on
	program string
	log     io.Writer
	addr    netip.AddrPort
	// isDetached: a process outside the program's group listens, and may outlive it.
	isDetached bool
	closeOnce  sync.Once
	ended      []process.Detached // processes outside the program's group that Close has ended
	startedCh  chan struct{}      // closed when Child is set
	readyCh    chan struct{}      // closed when a line has matched readyPattern, or there is none

	// Written by handleLines; others may read it after Done.
	hasPrintedReady bool
	loginLine       string // the first line that matched loginPattern
}

// handleLines handles lines that the program prints. A request for a login ends the program.
func (t *tunnel) handleLines(_ process.Stream, lines []byte) {
	_, _ = t.log.Write(lines) // a log reports its own errors
	isAwaitingReady := t.readyPattern != nil && !t.hasPrintedReady
	isAwaitingLogin := t.loginPattern != nil && t.loginLine == ""
	if !isAwaitingReady && !isAwaitingLogin {
		return
	}
	for line := range bytes.Lines(lines) {
		line = bytes.TrimRight(line, "\r\n")
		if isAwaitingReady && t.readyPattern.Match(line) {
			isAwaitingReady, t.hasPrintedReady = false, true
			close(t.readyCh)
		}
		if isAwaitingLogin && t.loginPattern.Match(line) {
			isAwaitingLogin, t.loginLine = false, string(line)
			<-t.startedCh
			t.Kill()
		}
	}
}

// listenerPoll is how often the program's listener is looked for: often at first, because many programs start fast, then less often.
var listenerPoll = wait.Backoff{First: 5 * time.Millisecond, Max: 250 * time.Millisecond, Factor: 1.5}

// detachedDelay is how long a process outside the program's group must have listened on the port before it is taken for the program's: a
// server that the program has started in another session, or the proxy of a container. No other process was listening before the program
// was started.
const detachedDelay = time.Second

// waitReady returns when the program listens on the port and is ready. It polls, because no system reports new listeners.
func (t *tunnel) waitReady(ctx context.Context, port uint16) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var detachedSince time.Time
	for poll := listenerPoll; ; {
		select {
		case <-ctx.Done():
			return t.timeoutErr(ctx, port)
		case <-t.Done():
			return t.exitFailure()
		case <-timer.C:
		}
		hasDetached := false
		// A program that listens on "localhost" may have chosen either of its addresses.
		for _, host := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			addr := netip.AddrPortFrom(host, port)
			if holder.GroupListensOn(t.Pid(), addr) {
				t.addr = addr
				return t.waitReadyLine(ctx, port)
			}
			if !isOwnOrRootsListener(addr) {
				continue
			}
			hasDetached = true
			if !detachedSince.IsZero() && time.Since(detachedSince) >= detachedDelay && canConnect(ctx, addr) {
				t.addr, t.isDetached = addr, true
				t.recordDetached()
				return t.waitReadyLine(ctx, port)
			}
		}
		if !hasDetached {
			detachedSince = time.Time{}
		} else if detachedSince.IsZero() {
			detachedSince = time.Now()
			t.recordDetached()
		}
		timer.Reset(poll.Next())
	}
}

// isOwnOrRootsListener reports whether a process of this user or root listens on an address. Another user's is not the program's.
func isOwnOrRootsListener(addr netip.AddrPort) bool {
	h, ok := holder.Find(addr)
	return ok && (h.UID == os.Getuid() || h.UID == 0)
}

func canConnect(ctx context.Context, addr netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, detachedDelay)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// recordDetached records the processes in other sessions that the program has started: if this process is killed, its successor ends them.
// Without the record it ends those that have kept the environment.
func (t *tunnel) recordDetached() {
	if found := t.FindDetached(t.port); len(found) > 0 && t.dir != "" {
		_ = process.RecordDetached(t.dir, found)
	}
}

// Close ends the program and what it has started, and returns when nothing is left.
func (t *tunnel) Close() (err error) {
	t.closeOnce.Do(func() {
		before := t.FindDetached(t.port)
		_ = t.Child.Close()
		t.ended = t.KillDetached(t.port, before)
		isDaemon := !t.WasStopped() && t.HasSucceeded() // the program has put itself into the background
		if len(t.ended) > 0 || t.isDetached || isDaemon {
			_, err = process.KillTunnel(t.id)
		}
	})
	return err
}

// explainDetached adds to the failure of a program that exited before it was ready what it has left running, and that it must not put itself
// into the background.
func (t *tunnel) explainDetached(err error) error {
	failure, isFailure := errors.AsType[*forwarder.Failure](err)
	if !isFailure || t.WasStopped() || failure.Class == forwarder.NeedsUser {
		return err
	}
	if len(t.ended) > 0 {
		server := t.ended[max(0, slices.IndexFunc(t.ended, func(p process.Detached) bool { return p.IsListener }))]
		failure.Reason += fmt.Sprintf("; it left %s (pid %d) in the background, which was ended with it", server.Name, server.PID)
	}
	if len(t.ended) > 0 || t.HasSucceeded() {
		failure.Hint = fmt.Sprintf("%s must run until it is stopped: leave out an option that puts it or its server into the background", t.program)
	}
	return err
}

// waitReadyLine returns when the listening program has printed its ready line, if one is configured.
func (t *tunnel) waitReadyLine(ctx context.Context, port uint16) error {
	select {
	case <-t.readyCh:
		return nil
	case <-t.Done():
		return t.exitFailure()
	case <-ctx.Done():
		return t.timeoutErr(ctx, port)
	}
}

// timeoutErr returns what the program did not do in time, or the context's error if it was canceled.
func (t *tunnel) timeoutErr(ctx context.Context, port uint16) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	reason := fmt.Sprintf("%s is running, but does not listen on port %d", t.program, port)
	if t.addr.IsValid() {
		reason = fmt.Sprintf("%s listens on port %d, but has printed no line that matches ready, %q", t.program, port, t.readyPattern)
	}
	return &forwarder.Failure{Reason: reason + lastOutput(t.LastLines())}
}

// loginRecheckInterval is the time between attempts while the user has not logged in: the user may do that in another terminal. It is long
// because some programs open a browser at each attempt.
const loginRecheckInterval = 15 * time.Minute

// exitFailure returns why the program ended.
func (t *tunnel) exitFailure() error {
	if t.loginLine != "" {
		hint := fmt.Sprintf(`log in as the message says, then run "localport restart %s"`, t.name)
		if t.hasLogin {
			hint = fmt.Sprintf(`run "localport login %s"`, t.name)
		}
		return &forwarder.Failure{
			Class: forwarder.NeedsUser, Reason: fmt.Sprintf("%s needs a login: %s", t.program, t.loginLine), Hint: hint, RecheckAfter: loginRecheckInterval,
		}
	}
	failure := &forwarder.Failure{Reason: fmt.Sprintf("%s exited: %s", t.program, t.ExitStatus()) + lastOutput(t.LastLines())}
	if !t.HasSucceeded() { // "#!/usr/bin/env bash" with a carriage return starts, and env does not find the program
		failure.Hint = process.FindCarriageReturn(t.Path()).Hint
	}
	return failure
}

// lastOutput returns the last lines that a program printed, as the end of a reason.
func lastOutput(lines []string) string {
	if len(lines) == 0 {
		return "; it printed nothing"
	}
	return ": " + strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// Dial connects to the program. A refused connect is a *forwarder.Refusal while the program runs.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.addr.String())
	if err == nil {
		return conn, nil
	}
	if wait.IsClosed(t.Done()) {
		return nil, net.ErrClosed
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &forwarder.Refusal{Reason: fmt.Sprintf("%s: connection refused", t.program), IsConnectFailure: true}
	}
	return nil, err
}

// Refusals returns nil: the output of an arbitrary program says nothing about single connections.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }

// Acknowledges returns false: the program may accept before it has reached the far end.
func (t *tunnel) Acknowledges() bool { return false }

// Err returns why the program ended; nil after Close.
func (t *tunnel) Err() error {
	if t.WasStopped() {
		return nil
	}
	return t.exitFailure()
}
