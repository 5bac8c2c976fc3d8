package ssh

import (
	"context"
	"errors"
	"net"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/ssh/socks"
)

// socksTunnel is a SOCKS proxy whose connections are opened by the server.
type socksTunnel struct{ *tunnel }

func newSOCKSTunnel(m *master, release func()) *socksTunnel {
	return &socksTunnel{newTunnel(m, release)}
}

// Dial returns at once; the channel is opened when the client has sent its SOCKS request. A refusal goes to that client alone and
// does not concern the service.
func (t *socksTunnel) Dial(ctx context.Context) (net.Conn, error) {
	ctx = context.WithoutCancel(ctx) // ctx ends when Dial returns
	return socks.New(ctx, func(ctx context.Context, host string, port int) (forwarder.Stream, error) {
		c, err := t.openChannel(ctx, host, port)
		if refused, isRefused := errors.AsType[*mux.OpenChannelError](err); isRefused {
			return nil, &socks.Refusal{Reply: socksReply(refused.Reason), Err: err}
		}
		if err != nil {
			return nil, err
		}
		return c, nil
	}), nil
}

// socksReply returns the SOCKS reply for a reason of mux.OpenChannelError.
func socksReply(reason uint32) socks.Reply {
	switch reason {
	case mux.Prohibited:
		return socks.ReplyNotAllowed
	case mux.ConnectionFailed:
		return socks.ReplyConnectionRefused
	}
	return socks.ReplyGeneralFailure
}
