package ssh

import (
	"os"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
)

// outputParser reads the output of a master: when it has logged in, and why it failed.
type outputParser struct {
	socketPath string    // of the master's control socket
	keyFile    string    // key_file of the config; may be empty
	loggedInCh chan bool // receives one value after the login: whether the master can be used

	mu          sync.Mutex
	lines       process.Transcript
	unusableKey string // a key that the server accepts and ssh could not use
	isLoggedIn  bool
}

// parseLine parses a line of output and reports whether it belongs in the log.
func (p *outputParser) parseLine(line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if message, ok := strings.CutPrefix(line, "debug1: "); ok {
		p.parseDebug(message)
		return false
	}
	if strings.HasPrefix(line, "debug2: ") || strings.HasPrefix(line, "debug3: ") { // by the ssh to a jump host
		return false
	}
	if !isInformational(line) {
		p.lines.Add(line)
	}
	return true
}

// parseDebug parses a message of level DEBUG1. p.mu is held.
func (p *outputParser) parseDebug(message string) {
	switch {
	case message == "Entering interactive session.":
		p.handleLogin()
	case strings.HasPrefix(message, "Server accepts key: "):
		p.unusableKey, _, _ = strings.Cut(strings.TrimPrefix(message, "Server accepts key: "), " ")
	case strings.HasPrefix(message, "Authentications that can continue"):
		p.unusableKey = "" // ssh used it, but the server wants more
	}
}

// handleLogin handles the message that ssh has logged in. It is the master's own only if the socket exists or could not be bound: an
// ssh to a jump host prints the same where the user's configuration makes it that verbose. p.mu is held.
func (p *outputParser) handleLogin() {
	_, err := os.Lstat(p.socketPath)
	if _, hasBindError := p.lines.LastContaining(socketBindError); p.isLoggedIn || err != nil && !hasBindError {
		return
	}
	p.isLoggedIn = err == nil && !p.isHostKeyChanged()
	if p.isLoggedIn {
		p.lines.Reset()
	}
	select {
	case p.loggedInCh <- p.isLoggedIn:
	default:
	}
}

// isHostKeyChanged reports whether ssh has warned of a changed host key. The user's configuration may let ssh continue; this
// package does not. p.mu is held.
func (p *outputParser) isHostKeyChanged() bool {
	_, isChanged := p.lines.LastContaining(hostKeyChanged)
	return isChanged
}

// isInformational reports whether a line never explains a failure.
func isInformational(line string) bool {
	for _, prefix := range []string{"Authenticated to ", "Transferred: ", "Bytes per second: ", "Warning: Permanently added "} {
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
