// Package probe is the vocabulary of health checks: the way to a service, and a question about it in the service's own
// protocol. Each type of check is a package below this one, and a line in probe/kinds; the example is a whole one.
//
// A probe never connects to our own listener: that accepts with nothing behind it. It goes through the tunnel.
package probe

import (
	"context"
	"net"

	"github.com/localport-sh/localport/project"
)

// Dialer is the way to the service: its tunnel.
type Dialer interface {
	// Dial opens a connection. Where the far end turns it down later, Read returns what the tunnel reported. The
	// caller closes it.
	Dial(ctx context.Context) (net.Conn, error)
	// Acknowledges reports whether a connection that Dial returned is known to have reached the service.
	Acknowledges() bool
}

// Check asks once. Nil is well; an error says what was wrong in the protocol's own words. The context bounds it: a
// check that it cuts short returns an error that wraps the context's. It is never called while a call of it is under
// way, and leaves nothing behind.
type Check func(ctx context.Context, path Dialer) error

// Type is a type of health check.
type Type struct {
	project.CheckType
	// New makes the check of one service. An error is about settings that Valid alone could not judge.
	New func(project.Settings) (Check, error)
}

// Failure is a bad answer: the service spoke, so its tunnel carries. The supervisor never restarts a tunnel for it. An
// error that is no Failure may be the tunnel's fault.
type Failure struct {
	Reason string // in the protocol's own words
	Hint   string // the next step for the user; may be empty
}

// Error is the reason; the hint is for whoever renders it.
func (f *Failure) Error() string { return f.Reason }
