package supervisor

import (
	"context"
	"net"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/relay"
)

// gate is what a forward does with its relay. (It is an interface so that a forward's course, which is all about time,
// can be run without sockets and clocks.)
type gate interface {
	Attach(forwarder.Tunnel)
	Detach(forwarder.Tunnel)
	Hold()
	Reject()
	DropWaiting()
	Dial(ctx context.Context) (net.Conn, error)
	Stats() relay.Stats
	SetConnectTimeout(time.Duration)
	StopAccepting()
	Close() error
}
