package ssh

import (
	"context"
	"errors"
	"net"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
	"github.com/localport-sh/localport/forwarder/ssh/socks"
)

// anywhere leads wherever its clients ask to go.
type anywhere struct{ *tunnel }

func newSOCKS(m *master, leave func()) *anywhere { return &anywhere{newTunnel(m, leave)} }

// Dial returns a connection that is opened when its client has said where to. That one of them cannot be is told to its
// client, and is no trouble of the service's.
func (a *anywhere) Dial(ctx context.Context) (net.Conn, error) {
	ctx = context.WithoutCancel(ctx) // which ends when the connection is made
	return socks.New(ctx, func(ctx context.Context, host string, port int) (forwarder.Stream, error) {
		c, err := a.channel(ctx, host, port)
		if refused, ok := errors.AsType[*mux.Refused](err); ok {
			return nil, &socks.Refusal{Reply: reply(refused.Code), Err: err}
		}
		if err != nil {
			return nil, err
		}
		return c, nil
	}), nil
}

// reply is what a refusal is called in SOCKS.
func reply(code uint32) socks.Reply {
	switch code {
	case mux.Prohibited:
		return socks.Prohibited
	case mux.ConnectFailed:
		return socks.Refused
	}
	return socks.General
}
