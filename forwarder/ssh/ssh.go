// Package ssh opens tunnels with the user's own ssh, and so with the user's configuration, agent, known hosts and jump hosts. All
// tunnels to one destination share one ssh process, a master; each client's connection is a channel of its own, which the server
// confirms or refuses.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/project"
)

// Technology registers "ssh".
var Technology = forwarder.Technology{
	TechnologyType: project.TechnologyType{Name: "ssh", HasRemotePort: true, RemotePortAlternative: "socks", Keys: configKeys, Finish: completeService},
	New:            New,
	Login:          newLogin,
	VariableUse:    variableUse,
	Explain:        explain,
	Verify:         verify,
	Preflight:      preflight,
}

// New returns a driver, which ends with ctx or by Close.
func New(ctx context.Context, _ forwarder.Host) forwarder.Driver { return newDriver(ctx) }

var _ forwarder.NetworkObserver = (*driver)(nil)

func newDriver(ctx context.Context) *driver {
	return &driver{tasks: tasks.New(ctx), destinations: make(map[string]*destination), recheckInterval: recheckInterval}
}

// driver holds the destinations that the tunnels of one supervisor share.
type driver struct {
	tasks           *tasks.Group
	recheckInterval time.Duration

	mu           sync.Mutex
	destinations map[string]*destination // by the command line of the master; never removed, because they remember failures
}

// newLogin returns the login that all services with the same ssh command line share. The master itself asks the questions.
func newLogin(svc project.Service, _ string, _ []string) forwarder.Login {
	s := newTunnelSpec(svc)
	login := forwarder.Login{Key: strings.Join(s.baseArgv(), "\x00"), Name: s.connection.host, UsesAskSocket: true}
	if isMissing(s.connection.keyFile) {
		login.Warning = fmt.Sprintf("key_file %s does not exist: ssh may ask for a password instead", s.connection.keyFile)
	} else if mistake := findKeyMistake(s.connection.keyFile, "key_file"); mistake.kind != "" && !mistake.isPublicHalf {
		login.Warning = fmt.Sprintf("key_file %s is %s: ssh may ask for a password instead; %s", s.connection.keyFile, mistake.kind, mistake.hint)
	}
	return login
}

// preflight looks for ssh and for the files that the config names.
func preflight(svc project.Service, run forwarder.Run) *forwarder.Failure {
	lookup := process.Command{Argv: []string{"ssh"}, Env: run.Env, Dir: run.Dir}
	if _, err := process.LookPath("ssh", lookup.Env, lookup.Dir); err != nil {
		return process.ClassifyStartError(err, lookup, installSSH)
	}
	connection := newTunnelSpec(svc).connection
	switch mistake := findKeyMistake(connection.keyFile, "key_file"); {
	case isMissing(connection.keyFile):
		return &forwarder.Failure{Reason: "key_file " + connection.keyFile + " does not exist", Hint: createKeyHint(connection.keyFile)}
	case mistake.kind != "" && !mistake.isPublicHalf:
		return &forwarder.Failure{Reason: "key_file " + connection.keyFile + " is " + mistake.kind, Hint: mistake.hint}
	case !strings.EqualFold(connection.configFile, "none") && isMissing(connection.configFile):
		return &forwarder.Failure{Reason: "config_file " + connection.configFile + " does not exist", Hint: "correct config_file, or create the file: " + connection.configFile}
	}
	return nil
}

// createKeyHint is the next step if key_file names a file that does not exist.
func createKeyHint(path string) string { return "correct key_file, or create the key: " + path }

// tunnelSpec is the part of a service's config that its tunnel needs.
type tunnelSpec struct {
	name       string
	connection connectionConfig
	remotePort string
	localAddrs []netip.AddrPort // of a reverse forward: where the local server may listen
}

func newTunnelSpec(svc project.Service) *tunnelSpec {
	s := &tunnelSpec{name: svc.Name, connection: newConnectionConfig(svc), remotePort: svc.RemotePort}
	if s.connection.isReverse {
		s.localAddrs = svc.Addresses()
	}
	return s
}

// serverName returns the ssh host as messages name it, without user and port.
func (s *tunnelSpec) serverName() string {
	host := s.connection.host
	if u, err := url.Parse(host); err == nil && u.Scheme == "ssh" {
		return u.Hostname()
	}
	return host[strings.LastIndexByte(host, '@')+1:]
}

// Target names the ssh host, and the remote address as that host resolves it.
func (*driver) Target(svc project.Service) string {
	s := newTunnelSpec(svc)
	host := s.connection.host
	if s.connection.port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(s.connection.port))
	}
	if s.connection.user != "" {
		host = s.connection.user + "@" + host
	}
	remoteAddr := net.JoinHostPort(s.connection.remoteHost, s.remotePort)
	switch {
	case s.connection.isSOCKS:
		return "ssh " + host + " → anywhere (SOCKS)"
	case s.connection.isReverse:
		return "ssh " + host + " listens on " + remoteAddr + " → " + s.localAddrs[0].String()
	}
	return "ssh " + host + " → " + remoteAddr
}

// Open starts the destination's master unless it is running, and returns once it has logged in.
func (d *driver) Open(ctx context.Context, svc project.Service, run forwarder.Run) (forwarder.Tunnel, error) {
	s := newTunnelSpec(svc)
	dest := d.destinationFor(s, run)
	loggedInCh := dest.loggedIn.Changed()
	m, err := dest.acquireMaster(ctx, svc.Name, run)
	if f, isFailure := errors.AsType[*forwarder.Failure](err); isFailure {
		failure := dest.lastInputs().endOnChange(nameService(f, svc.Name), loggedInCh)
		if failure.Class != forwarder.Transient {
			failure.RecheckAfter = recheckInterval // what the server accepts
		}
		return nil, failure
	}
	if err != nil {
		return nil, err
	}
	release := func() { dest.releaseMaster(m, run.Log) }
	switch {
	case s.connection.isSOCKS:
		return newSOCKSTunnel(ctx, s, m, run.Log, release), nil
	case s.connection.isReverse:
		return openReverseTunnel(ctx, s, m, release)
	}
	return newDirectTunnel(s, m, release), nil
}

// OnNetworkChange implements forwarder.NetworkObserver.
func (d *driver) OnNetworkChange() {
	d.mu.Lock()
	destinations := slices.Collect(maps.Values(d.destinations))
	d.mu.Unlock()
	for _, dest := range destinations {
		dest.onNetworkChange()
	}
}

// Close ends every master and returns when their processes have ended.
func (d *driver) Close() error {
	d.tasks.Close()
	return nil
}
