package ssh

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
)

// resolverMessages are parts of what getaddrinfo says about a name, in the C libraries that servers run with.
var resolverMessages = []string{"ame or service not known", temporaryResolverMessage, "No address associated", "nodename nor servname", "ame does not resolve", "no such host"}

// temporaryResolverMessage is part of what it says when no name server answers.
const temporaryResolverMessage = "name resolution"

// maxUnknownAnswers is how often a server may say that a host is unknown until its clients are not kept waiting for it.
const maxUnknownAnswers = 2

// hostLookups is what a server has said about the name of a host.
type hostLookups struct {
	wasKnown       bool // at least once
	unknownAnswers int  // in a row
}

// recordLookup records whether the server has found a host unknown, and reports whether that counts for another attempt too. It is so for a
// name that the server has never known, and says so again: it is probably misspelled, and a client that waits for it would wait in vain until
// connect_timeout. The name of a container, however, is known only while that runs: a client waits for one that was known before, as it waits
// for a server that is restarting. Each client asks again, so that a name that becomes known is used at once.
func (d *destination) recordLookup(host string, isUnknown bool) (isFinal bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.lookups[host]
	switch {
	case isUnknown:
		now.unknownAnswers++
	case now == hostLookups{wasKnown: true}:
		return false
	default:
		now = hostLookups{wasKnown: true}
	}
	if d.lookups == nil {
		d.lookups = make(map[string]hostLookups)
	}
	d.lookups[host] = now
	return isUnknown && !now.wasKnown && now.unknownAnswers >= maxUnknownAnswers
}

// newRefusal returns the refusal of a connection that a server was asked for. Names are those of the config: a server, as the host to run
// ssh with, and an address as the server resolves it. key are the options of the key that logged in there. recheck says, for
// the hint, when a change of the server's settings takes effect.
func newRefusal(server, host string, port int, err *mux.OpenChannelError, key keyOptions, recheck string) *forwarder.Refusal {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	r := &forwarder.Refusal{IsConnectFailure: true}
	switch {
	case err.Reason == mux.Prohibited:
		r.IsFinal = true
		r.Reason = fmt.Sprintf("%s does not allow connections to %s (administratively prohibited)", server, addr)
		r.Hint = localForwarding.describe(server, addr, key, verdictUnknown) + "; " + recheck
	case err.Reason == mux.UnknownChannelType:
		r.IsFinal = true
		r.Reason = fmt.Sprintf("%s has no port forwarding (unknown channel type), so it cannot connect to %s", server, addr)
		r.Hint = recheck
	case err.Reason == mux.ConnectionFailed && isResolverMessage(host, err.Message):
		r.Reason = fmt.Sprintf("%s cannot resolve %s: %s", server, host, err.Message)
		r.Hint = fmt.Sprintf("the name is resolved on %s, not on this machine: use a name or an address that is known there", server)
	case err.Reason == mux.ConnectionFailed:
		r.Reason = fmt.Sprintf("%s cannot connect to %s: %s", server, addr, err.Message)
	default:
		r.Reason = fmt.Sprintf("%s refused a connection to %s: %s", server, addr, strings.TrimPrefix(err.Error(), "open failed: "))
	}
	return r
}

// isResolverMessage reports whether a message is about the name of a host.
func isResolverMessage(host, message string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	for _, text := range resolverMessages {
		if strings.Contains(message, text) {
			return true
		}
	}
	return false
}

// cutOpenFailure returns the reason and the message of a refusal that ssh has logged: "channel 0: open failed: connect failed: Connection
// refused".
func cutOpenFailure(line string) (reason uint32, message string, ok bool) {
	_, text, ok := strings.Cut(line, "open failed: ")
	kind, message, _ := strings.Cut(text, ": ")
	for reason = mux.Prohibited; reason <= mux.ResourceShortage; reason++ {
		if "open failed: "+kind == (&mux.OpenChannelError{Reason: reason}).Error() {
			return reason, message, ok
		}
	}
	return 0, message, false
}
