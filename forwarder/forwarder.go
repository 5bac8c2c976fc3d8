// Package forwarder is the vocabulary of forwards: the states a forward can be in, the tunnel that carries its
// bytes, and the ways a tunnel fails. The relay, the technologies and the supervisor all speak it. Each technology is a
// package below this one, and a line in forwarder/supervisor/technologies.go; the example is a whole one.
package forwarder

import (
	"context"
	"io"
	"net"
	"time"
)

// State is what a forward is doing, as status shows it.
type State string

// The states of a forward.
const (
	Idle           State = "idle"            // on demand, and nothing has connected yet
	Starting       State = "starting"        // the first tunnel is being opened
	Healthy        State = "healthy"         // the tunnel is up and the probe is well
	Unhealthy      State = "unhealthy"       // the tunnel is up, the probe is not
	Restarting     State = "restarting"      // the tunnel ended; another is on its way
	NeedsAttention State = "needs_attention" // only the user can help: a login, a host key
	Failed         State = "failed"          // permanent, or the attempts are used up
	Stopped        State = "stopped"         // by the user's word, or not part of this start
)

// Settled reports whether waiting any longer for a forward in this state is useless: it is ready, or only a
// person can change it.
func (s State) Settled() bool {
	switch s {
	case Healthy, Idle, NeedsAttention, Failed, Stopped:
		return true
	}
	return false
}

// Ready reports whether a client may count on the forward.
func (s State) Ready() bool { return s == Healthy || s == Idle }

// Class says what may be done about a failure.
type Class int

// The classes of failure.
const (
	Transient Class = iota // retried for ever, with backoff
	NeedsUser              // not retried until the user acts
	Permanent              // not retried until the config changes or the user asks
)

// Failure is why a tunnel could not be opened, or why it ended.
type Failure struct {
	Class  Class
	Reason string // what the tool underneath said, in its own words where it has any
	Hint   string // the next step for the user; may be empty
}

// Error is the reason; the hint is for whoever renders it.
func (f *Failure) Error() string { return f.Reason }

// Refusal is what a live tunnel says about one connection that it could not carry. The tunnel itself goes on.
type Refusal struct {
	Reason string // in the tool's own words
	// IsConnectFailure: the connect at the far end failed, so no byte of the client's ever reached a server. Only then
	// may bytes be sent again. False for read and write errors of a connection that had been made.
	IsConnectFailure bool
	// Conn is the connection returned by Dial that the report is about; nil where the tool does not say.
	Conn net.Conn
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason }

// Tunnel is one run of what carries the bytes. It has been opened and is ready when one holds it.
type Tunnel interface {
	// Dial opens one connection through the tunnel. The connection is a *net.TCPConn or a *net.UnixConn, so
	// that it can be half-closed and spliced, or a Stream. An error that is a *Refusal says that the far end refused and
	// that the tunnel is well; after any other error the caller asks Done.
	Dial(ctx context.Context) (net.Conn, error)
	// Refusals delivers what the tunnel reports of single connections after Dial returned. It is never closed,
	// it is buffered, and a report that nobody takes is dropped. A tunnel that acknowledges or refuses in
	// Dial itself returns nil.
	Refusals() <-chan Refusal
	// Acknowledges reports whether a connection returned by Dial is known to have reached the far end's server.
	// Where false, a connection shows its worth only by a byte that comes back or by staying open.
	Acknowledges() bool
	// Done is closed when the tunnel has ended, by itself or by Close.
	Done() <-chan struct{}
	// Err says why it ended; a *Failure unless Close ended it, then nil. Valid after Done.
	Err() error
	// Close ends the tunnel and everything it started, politely and then by force, and returns when nothing is
	// left. It may be called more than once.
	Close() error
}

// Stream is a connection through a tunnel that is no socket of its own. It is read by Next or by Read, never by both.
type Stream interface {
	net.Conn
	CloseWrite() error
	// Next waits for bytes and lends them until the next call. io.EOF is their end, net.ErrClosed that of the stream by
	// Close. What was to be reported of the end has been reported then.
	Next() ([]byte, error)
	// WaitEnd returns nil when the far end has let go of the stream altogether, after the end of its bytes, or when what
	// carries it has ended: all that the far end said has come, and a reset would cost a client what it has not read yet.
	// After Close it returns net.ErrClosed.
	WaitEnd() error
	// Broken reports, after the end, that the far end did not mean it: a client is to see a reset.
	Broken() bool
}

// Fragile is implemented by a tunnel in which one refused connection ends every other. It is not probed while it has
// clients.
type Fragile interface{ Fragile() }

// ProcessMonitor is implemented by a tunnel that can be alive and do nothing: whose process is stopped. Its listener goes on
// accepting, so that only the process itself can tell.
type ProcessMonitor interface{ IsProcessStopped() bool }

// FailureReporter is implemented by a tunnel that can be well and lead nowhere for a while: a service without pods, a server that
// cannot be reached. Its connections wait meanwhile.
type FailureReporter interface {
	// CurrentFailure is what stands in the way of connections now; nil if nothing is known to.
	CurrentFailure() *Failure
	// FailureChanged gets a word when Trouble may say something else.
	FailureChanged() <-chan struct{}
}

// PathChecker is implemented by a tunnel that can find out by itself whether it still leads anywhere.
type PathChecker interface {
	// CheckPath says that the way to the far end may have changed. The tunnel looks, soon, and ends if it leads nowhere.
	CheckPath()
}

// ClusterInfo is something that the tunnels of several services lead into: a cluster.
type ClusterInfo struct {
	Name      string    // as the config calls it: the context
	Address   string    // of its server
	Failure   *Failure  // what is wrong with it now; nil: nothing that is known
	ExpiresAt time.Time // when our credential for it ends; zero: never, or nobody knows
	IsRenewed bool      // the credential is renewed by itself
}

// Run is what one opening of a tunnel is given by the supervisor.
type Run struct {
	ID        string    // names this run in logs and in the children's environment
	Dir       string    // the project root, where children run
	SocketDir string    // a 0700 directory for this run's private sockets; exists, short, removed by the supervisor
	Env       []string  // the children's whole environment, as os.Environ gives it
	Log       io.Writer // takes what the children say, line by line; safe for concurrent use
	// RequestedAt is when the user asked for the tunnel last, by start, restart or login; zero if it was not for that. What is
	// remembered of failures from before does not count.
	RequestedAt time.Time
	// IsUrgent is set where a client waits for the tunnel, or the machine's surroundings have changed: an attempt is worth more
	// then than what is remembered of the last one.
	IsUrgent bool
	// AskSocket is the socket at which the user answers questions, for an opening that is a login; empty otherwise.
	AskSocket string
}

// RunVariable is in the environment of everything that a supervisor's tunnels start. Its value is the supervisor's
// run id: what carries it after the supervisor has ended is an orphan.
const RunVariable = "LOCALPORT_RUN"
