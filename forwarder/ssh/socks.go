package ssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/ssh/socks"
	"github.com/localport-sh/localport/forwarder/wait"
)

// socksTunnel is a SOCKS proxy whose connections are opened by the server.
type socksTunnel struct {
	*tunnel
	server    string // the ssh host's name
	service   string
	log       io.Writer
	refusalCh chan forwarder.Refusal

	mu      sync.Mutex
	failure *forwarder.Failure // the server forbids forwarding, as far as is known
}

var _ forwarder.FailureReporter = (*socksTunnel)(nil)

// newSOCKSTunnel returns when it knows whether the server forbids forwarding.
func newSOCKSTunnel(ctx context.Context, s *tunnelSpec, m *master, log io.Writer, release func()) *socksTunnel {
	t := &socksTunnel{
		tunnel: newTunnel(m, release), server: s.serverName(), service: s.name, log: log,
		refusalCh: make(chan forwarder.Refusal, 16),
	}
	t.failure = t.checkForwarding(ctx)
	return t
}

// Nothing but a refusal tells whether a server allows forwarding. On this port nothing listens (RFC 1078, obsolete): a server that allows
// forwarding says so.
const (
	testHost = "127.0.0.1"
	testPort = 1
)

// checkForwarding returns a failure if the server forbids a test connection, and no connection through it has ever succeeded.
func (t *socksTunnel) checkForwarding(ctx context.Context) *forwarder.Failure {
	if t.master.hasForwarded.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	stream, err := t.master.conn.Open(ctx, testHost, testPort)
	if err == nil {
		_ = stream.Close()
	}
	refused, isRefused := errors.AsType[*mux.OpenChannelError](err)
	if !isRefused {
		return nil
	}
	if !isForbidden(refused) {
		return nil
	}
	recheck := t.master.describeRecheck(t.service)
	key := t.master.keyOptions()
	refusal := newRefusal(t.server, testHost, testPort, refused, key, recheck)
	t.master.addRestriction("test", restriction{
		tunnel: t.tunnel, isKept: true, isLifted: func(ctx context.Context, other *master) bool { return other.allows(ctx, testHost, testPort) },
	})
	hint := localForwarding.describe(t.server, "the addresses", key, verdictUnknown)
	if !key.forbidsForwarding() {
		hint += "; if only some addresses are allowed, the first connection to one of them makes the service healthy"
	}
	return &forwarder.Failure{
		Reason: fmt.Sprintf("%s does not allow forwarding, or only to some addresses: %s", t.server, refusal.Reason),
		Hint:   hint + "; " + recheck,
	}
}

// Refusals delivers the refused requests.
func (t *socksTunnel) Refusals() <-chan forwarder.Refusal { return t.refusalCh }

// CurrentFailure says that the server forbids forwarding or does not answer.
func (t *socksTunnel) CurrentFailure() *forwarder.Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	return cmp.Or(t.failure, t.tunnel.CurrentFailure())
}

// Dial returns at once; the channel is opened when the client has sent its SOCKS request. A refusal goes to that client alone, and into
// status and log.
func (t *socksTunnel) Dial(ctx context.Context) (net.Conn, error) {
	ctx = context.WithoutCancel(ctx) // ctx ends when Dial returns
	return socks.New(ctx, func(ctx context.Context, host string, port int) (forwarder.Stream, error) {
		c, err := t.openChannel(ctx, host, port)
		if refused, isRefused := errors.AsType[*mux.OpenChannelError](err); isRefused {
			refusal := t.newRefusal(t.server, t.service, host, port, refused)
			t.reportRequest(refusal)
			return nil, &socks.Refusal{Reply: socksReply(refused), Err: refusal}
		}
		if err != nil {
			return nil, err
		}
		t.recordSuccess()
		return c, nil
	}), nil
}

// reportRequest reports a refused request.
func (t *socksTunnel) reportRequest(r *forwarder.Refusal) {
	_, _ = fmt.Fprintf(t.log, "SOCKS: %s\n", r.Reason)
	select {
	case t.refusalCh <- forwarder.Refusal{Reason: r.Reason, Hint: r.Hint, IsRequest: true}:
	default: // status shows an earlier one
	}
}

// recordSuccess records that the server has opened a connection: it does not forbid forwarding.
func (t *socksTunnel) recordSuccess() {
	t.master.hasForwarded.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failure == nil {
		return
	}
	t.failure = nil
	t.master.removeRestrictions(t.tunnel)
	wait.Notify(t.changedCh)
}

// socksReply returns the SOCKS reply for a refusal.
func socksReply(refused *mux.OpenChannelError) socks.Reply {
	switch {
	case refused.Reason == mux.Prohibited:
		return socks.ReplyNotAllowed
	case refused.Reason == mux.ConnectionFailed && strings.Contains(refused.Message, "refused"):
		return socks.ReplyConnectionRefused
	case refused.Reason == mux.ConnectionFailed:
		return socks.ReplyHostUnreachable
	}
	return socks.ReplyGeneralFailure
}
