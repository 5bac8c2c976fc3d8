// Package probe defines health checks, which ask a service in its own protocol through its tunnel. Each type of check is a package
// below this one and a line in probe/builtin; the example is a complete one.
//
// A check connects through the tunnel, never to our own listener, which accepts even if nothing is behind it.
package probe

import (
	"context"
	"net"
	"time"

	"github.com/localport-sh/localport/project"
)

// Dialer connects to the service through its tunnel.
type Dialer interface {
	// Dial opens a connection. If the remote side refuses it later, Read returns what the tunnel reported. The
	// caller closes it.
	Dial(ctx context.Context) (net.Conn, error)
	// Acknowledges reports whether a connection that Dial returned is known to have reached the service.
	Acknowledges() bool
}

// EarlySuccessReporter is a Dialer that accepts the report of a success before the check has ended.
type EarlySuccessReporter interface {
	// ReportEarlySuccess says that the service has been reached within the time in which most failures show. The result of the check may still
	// differ. roundTrip is how long the far end took to answer.
	ReportEarlySuccess(roundTrip time.Duration)
}

// Pinger is a connection through a tunnel that reports a refused connect only after Dial has returned.
type Pinger interface {
	// Ping waits for an answer of the machine that was asked to connect to the service. A refusal usually arrives just after it. An error
	// says that there was no answer.
	Ping(ctx context.Context) error
}

// Check checks the service once. Nil means healthy; an error says what was wrong in the protocol's own terms. It ends with the context: a
// check that the context ends returns an error that wraps the context's. It is never called concurrently,
// and leaves no goroutine, connection or process behind.
type Check func(ctx context.Context, dialer Dialer) error

// Type is a type of health check.
type Type struct {
	project.CheckType
	// New returns the check of one service. An error is about settings that Validate cannot check alone.
	New func(project.Settings) (Check, error)
}

// Failure is a bad answer: the service answered, so its tunnel works. The supervisor never restarts a tunnel for it. An
// error that is not a Failure may be caused by the tunnel.
type Failure struct {
	Reason string // in the protocol's own words
	Hint   string // the next step for the user; may be empty
}

// Error returns the reason without the hint.
func (f *Failure) Error() string { return f.Reason }
