// Package ssh makes tunnels of the user's own ssh: one process a tunnel, with the user's configuration, agent, known
// hosts and jump hosts, its words read for what they mean.
package ssh

import (
	"context"
	"errors"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
	"github.com/localport-sh/localport/project"
)

// Kind is the technology "ssh".
var Kind = forwarder.Kind{TechnologyType: project.TechnologyType{Name: project.SSH}, New: New}

// New makes the technology of one service.
func New(svc project.Service) forwarder.Technology {
	t := &technology{to: svc.Connection, port: svc.RemotePort}
	if t.to.RemoteHost == "" {
		t.to.RemoteHost = "localhost" // as the ssh host itself understands it
	}
	return t
}

type technology struct {
	to   project.Connection
	port string
	old  atomic.Bool // this ssh is older than 8.7
}

// Target is the login and the far end as seen from there.
func (t *technology) Target() string {
	host := t.to.Host
	if t.to.Port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(t.to.Port))
	}
	if t.to.User != "" {
		host = t.to.User + "@" + host
	}
	return "ssh " + host + " → " + net.JoinHostPort(t.to.RemoteHost, t.port)
}

// socketName is the tunnel's private endpoint within the run's folder.
const socketName = "ssh"

// Open starts ssh and returns when it has logged in and listens on the tunnel's socket.
func (t *technology) Open(ctx context.Context, run forwarder.Run) (forwarder.Tunnel, error) {
	tunnel, err := t.open(ctx, run)
	if failure, ok := errors.AsType[*forwarder.Failure](err); ok && !t.old.Load() && rejects(failure, sinceOld) {
		t.old.Store(true)
		tunnel, err = t.open(ctx, run)
	}
	if err != nil {
		return nil, err // and not a tunnel that is nil
	}
	return tunnel, nil
}

func (t *technology) open(ctx context.Context, run forwarder.Run) (*tunnel, error) {
	tunnel := newTunnel(t, filepath.Join(run.Sockets, socketName), run.Log)
	program, err := child.Start(child.Command{
		Argv: t.argv(tunnel.socket), Dir: run.Dir, Env: environment(run.Env), Line: tunnel.line,
	})
	if err != nil {
		return nil, child.Failure(err, "install ssh (Debian and Ubuntu: openssh-client; Fedora: openssh-clients)")
	}
	tunnel.Child = program
	if err := tunnel.await(ctx); err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return tunnel, nil
}

// environment keeps the ssh that ssh itself starts for a jump host from asking for passwords in a window: BatchMode
// is not passed on to it.
func environment(env []string) []string {
	return append(slices.Clone(env), "SSH_ASKPASS_REQUIRE=never")
}

// To ssh the first value of an option counts, and the command line's come before those of any file.

// needed are the options without which the tunnel would not work, or would not be ours.
var needed = []string{
	"ControlMaster=no", "ControlPersist=no", // a master would carry the forward, and outlive us
	"BatchMode=yes",                       // nobody is there to be asked
	"ClearAllForwardings=no",              // it would clear ours too
	"ExitOnForwardFailure=no",             // a port of the user's own LocalForward may be busy
	"RemoteCommand=none", "RequestTTY=no", // -N and -T alone do not suffice against a configuration
	"StreamLocalBindUnlink=yes", "StreamLocalBindMask=0177",
	"LogLevel=DEBUG1", // says when it listens, and which connection is which channel
}

// sinceOld is needed too, but ssh knows it since 8.7 only. Before that it was no option that a file could set.
const sinceOld = "ForkAfterAuthentication"

// usual are the options that a config may change.
var usual = []string{"ServerAliveInterval=5", "ServerAliveCountMax=2", "ConnectTimeout=10"}

func (t *technology) argv(socket string) []string {
	argv := []string{"ssh", "-N", "-T", "-S", "none"}
	options := slices.Clone(needed)
	if !t.old.Load() {
		options = append(options, sinceOld+"=no")
	}
	for _, name := range slices.Sorted(maps.Keys(t.to.Options)) {
		options = append(options, name+"="+t.to.Options[name])
	}
	options = append(options, usual...)
	if t.to.KeyFile != "" {
		// The key that is named must not come after all those in an agent: servers count the attempts.
		options = append(options, "IdentitiesOnly=yes")
	}
	for _, option := range options {
		argv = append(argv, "-o", option)
	}
	argv = append(argv, t.login()...)
	argv = append(argv, "-L", escape(socket)+":"+net.JoinHostPort(t.to.RemoteHost, t.port))
	return append(argv, "--", t.to.Host)
}

// login are the arguments that say where and as whom to log in, without the host.
func (t *technology) login() []string {
	var args []string
	port := ""
	if t.to.Port != 0 {
		port = strconv.Itoa(t.to.Port)
	}
	for _, flag := range []struct{ name, value string }{
		{"-F", t.to.ConfigFile}, {"-J", t.to.Jump}, {"-i", t.to.KeyFile}, {"-l", t.to.User}, {"-p", port},
	} {
		if flag.value != "" {
			args = append(args, flag.name, flag.value)
		}
	}
	return args
}

// escape writes a path as -L wants it: a colon would end it, and a percent sign begins a token.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, "%", "%%").Replace(path)
}
