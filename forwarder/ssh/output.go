package ssh

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// source is who printed a line.
type source int

const (
	sourceSSH   source = iota // ssh's log
	sourceJump                // the log of the ssh processes that ssh has started: to jump hosts, by a ProxyCommand
	sourceOther               // anyone: servers (banners), a ProxyCommand, other programs of the user's configuration
)

// outputParser reads the output of a master: when it has logged in, and why it failed. Only ssh's own messages decide that.
type outputParser struct {
	socketPath string    // of the master's control socket
	keyFile    string    // key_file of the config; may be empty
	tryCommand string    // makes ssh read its config files
	hasAgent   bool      // the agent answered before the attempt
	loggedInCh chan bool // receives one value after the login: whether the master can be used

	mu         sync.Mutex
	lines      [sourceOther + 1]process.Transcript
	phase      loginPhase
	keyChange  *forwarder.Failure // the host's key differs from the known one, whatever the user's configuration says to that
	keys       [sourceOther]keyTrouble
	hasProxy   bool // a ProxyCommand or jump host is used
	jumps      jumpChain
	serverAddr netip.Addr // of the server; invalid: not known, as behind a jump host

	isForwardedNew   bool                // the next new channel is a connection to a port on which the server listens
	forwardedConns   map[string]struct{} // those that are open, by the channel's number
	forwardedChanged wait.Broadcast

	server serverMessages
}

// loginPhase is how far ssh has come.
type loginPhase int

const (
	phaseStarting       loginPhase = iota // it has logged nothing
	phaseConnecting                       // until the server's key is checked
	phaseAuthenticating                   // from here on, texts of the server may be among ssh's messages: those of keyboard-interactive
	phaseLoggedIn
)

// parseLine parses a line of output and reports whether it belongs in the log.
func (p *outputParser) parseLine(from source, line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from == sourceSSH {
		p.phase = max(p.phase, phaseConnecting)
	}
	if from == sourceJump {
		p.parseJumpLine(line)
	}
	if message, ok := strings.CutPrefix(line, "debug1: "); ok {
		if from == sourceSSH {
			p.parseDebug(message)
		}
		return false
	}
	if strings.HasPrefix(line, "debug2: ") || strings.HasPrefix(line, "debug3: ") { // by the ssh to a jump host
		return false
	}
	switch {
	case isInformational(line):
	case strings.Contains(line, invalidVersion):
		p.lines[sourceOther].Add(line)
	default:
		p.lines[from].Add(line)
	}
	return true
}

// parseDebug parses a message of level DEBUG1. p.mu is held.
func (p *outputParser) parseDebug(message string) {
	p.parseServerMessage(message)
	switch {
	case strings.HasPrefix(message, "channel "):
		p.parseChannel(message)
	case strings.HasPrefix(message, forwardedConnection):
		p.isForwardedNew = true
	case message == "failure forwarded-tcpip":
		p.isForwardedNew = false
	case message == "Entering interactive session.":
		p.handleLogin()
	case strings.HasPrefix(message, "identity file "):
		if parts := identityFilePattern().FindStringSubmatch(message); parts != nil && !isDefaultKey(parts[1]) && isMissing(parts[1]) {
			p.keys[sourceSSH].missing = parts[1]
		}
	case strings.HasPrefix(message, "Connecting to "):
		if parts := connectingPattern().FindStringSubmatch(message); parts != nil {
			p.serverAddr, _ = netip.ParseAddr(parts[1])
		}
	case strings.HasPrefix(message, implicitProxyCommand):
		p.jumps.lastHosts = jumpHostsOf(strings.TrimPrefix(message, implicitProxyCommand))
	case strings.HasPrefix(message, executingProxy):
		p.hasProxy = true
		p.jumps.target = forwardedAddr(message)
	case strings.HasPrefix(message, "SSH2_MSG_SERVICE_ACCEPT received"):
		p.startAuthentication()
	case strings.HasPrefix(message, "Authentications that can continue"):
		p.startAuthentication()
	}
	p.keys[sourceSSH].parseAuthentication(message)
}

// parseChannel parses a message about a channel: "channel 1: new forwarded-tcpip [127.0.0.1]", "channel 1: free: 127.0.0.1, nchannels 3". p.mu is
// held.
func (p *outputParser) parseChannel(message string) {
	number, event, _ := strings.Cut(strings.TrimPrefix(message, "channel "), ": ")
	switch {
	case strings.HasPrefix(event, "new ") && p.isForwardedNew:
		p.isForwardedNew = false
		if p.forwardedConns == nil {
			p.forwardedConns = make(map[string]struct{})
		}
		p.forwardedConns[number] = struct{}{}
	case strings.HasPrefix(event, "free: "):
		delete(p.forwardedConns, number)
		p.forwardedChanged.Announce()
	}
}

// waitForwardedConns returns when no connection to a port on which the server listens is open, endedCh is closed or ctx ends.
func (p *outputParser) waitForwardedConns(ctx context.Context, endedCh <-chan struct{}) {
	for {
		changedCh := p.forwardedChanged.Changed()
		p.mu.Lock()
		isNone := len(p.forwardedConns) == 0
		p.mu.Unlock()
		if isNone {
			return
		}
		select {
		case <-changedCh:
		case <-endedCh:
			return
		case <-ctx.Done():
			return
		}
	}
}

// implicitProxyCommand begins the message with the command of the ssh to a jump host.
const implicitProxyCommand = "Setting implicit ProxyCommand from ProxyJump: "

// executingProxy begins the message about the command of a connection: "proxy command", or "proxy dialer command".
const executingProxy = "Executing proxy "

// forwardedAddrPattern matches the address in the command of an ssh to a jump host.
var forwardedAddrPattern = project.LazyRegexp(`-W '\[(.+)\]:(\d+)'`)

// identityFilePattern matches the path of a key without a public one: it may not exist.
var identityFilePattern = project.LazyRegexp(`^identity file (.+) type -1$`)

// acceptedKeyPattern matches the path of a key, its type and fingerprint, and where it comes from: "Server accepts key: /home/me/.ssh/id_ed25519
// ED25519 SHA256:… explicit".
var acceptedKeyPattern = project.LazyRegexp(`^Server accepts key: (.+) [A-Z0-9-]+ [A-Z0-9]+:\S+(.*)$`)

// isDefaultKey reports whether ssh itself has added a path to the keys that it tries.
func isDefaultKey(path string) bool {
	return strings.HasSuffix(path, "-cert") || strings.HasPrefix(filepath.Base(path), "id_") && filepath.Dir(path) == filepath.Dir(userConfigFile())
}

// isMissing reports whether a file does not exist. An empty path is not missing.
func isMissing(path string) bool {
	_, err := os.Stat(path)
	return path != "" && os.IsNotExist(err)
}

// connectingPattern matches the address of the server.
var connectingPattern = project.LazyRegexp(`\[(.+)\] port \d+\.$`)

// publicServerAddr returns the server's address in the network; invalid: it is not known, or a loopback address.
func (p *outputParser) publicServerAddr() netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.serverAddr.IsLoopback() {
		return netip.Addr{}
	}
	return p.serverAddr
}

// startAuthentication handles that ssh has checked the server's key. It has warned of a changed one by now: what looks like that later
// is not its own. p.mu is held.
func (p *outputParser) startAuthentication() {
	if p.phase < phaseAuthenticating {
		p.keyChange = describeChangedKey(&p.lines[sourceSSH])
		p.phase = phaseAuthenticating
	}
}

// handleLogin handles the message that ssh has logged in. p.mu is held.
func (p *outputParser) handleLogin() {
	_, err := os.Lstat(p.socketPath)
	if _, hasBindError := p.lines[sourceSSH].LastContaining(socketBindError); p.phase == phaseLoggedIn || err != nil && !hasBindError {
		return
	}
	p.startAuthentication()
	isUsable := err == nil && p.keyChange == nil
	if isUsable {
		p.phase = phaseLoggedIn
		for i := range p.lines {
			p.lines[i].Reset()
		}
	}
	select {
	case p.loggedInCh <- isUsable:
	default:
	}
}

// isInformational reports whether a line never explains a failure.
func isInformational(line string) bool {
	for _, prefix := range []string{loginLine, "Transferred: ", "Bytes per second: ", "Warning: Permanently added "} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// failure returns why ssh failed according to its output, or with fallback as the reason if it printed nothing.
func (p *outputParser) failure(fallback string) *forwarder.Failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.classifyFailure(); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: fallback}
}
