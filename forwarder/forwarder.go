// Package forwarder has the types that the relay, the technologies and the supervisor share: states, tunnels, failures and the interface
// of a technology. Each technology is a package below this one, and a line in forwarder/supervisor/technologies.go; the example is
// a complete one.
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
	Idle           State = "idle"            // on demand, and no client has connected yet
	Starting       State = "starting"        // the first tunnel is being opened
	Healthy        State = "healthy"         // the tunnel is up and the health check succeeds
	Unhealthy      State = "unhealthy"       // the tunnel is up, but the health check fails
	Restarting     State = "restarting"      // the tunnel ended; another is being opened
	NeedsAttention State = "needs_attention" // only a person can help: a login, a host key
	Failed         State = "failed"          // permanent failure, or the attempts are used up
	Stopped        State = "stopped"         // by the user, or not selected by this start
	// Shared: another project of the user has the port, and its tunnel leads to the same target. Whether a client can use it depends on the
	// state that the service has there.
	Shared State = "shared"
)

// IsSettled reports whether it is useless to wait for a forward in this state: it is ready, or only a person can change it. Shared is no
// answer: see the state at the holder.
func (s State) IsSettled() bool {
	switch s {
	case Healthy, Idle, NeedsAttention, Failed, Stopped:
		return true
	}
	return false
}

// IsReady reports whether a client can use the forward.
func (s State) IsReady() bool { return s == Healthy || s == Idle }

// Class is how a failure is retried.
type Class int

// The classes of failure.
const (
	Transient Class = iota // retried indefinitely, with backoff
	NeedsUser              // retried when the user has acted or what it rests on may have changed: the service needs attention
	Permanent              // retried when the config, or what it rests on, may have changed
)

// Failure is why a tunnel could not be opened, or why it ended.
type Failure struct {
	Class  Class
	Reason string // what the tool said, in its own words if it said anything
	Hint   string // the next step for the user; may be empty
	// MayPass is set for a failure of class NeedsUser that may be one of a moment: a server that is starting answers 401, a captive portal shows
	// its own certificate. It is retried for a while before the service needs attention, and slowly after that.
	MayPass bool
	// RecheckAfter is the time to the next attempt after a failure of class NeedsUser or Permanent, in case that what it rests on has changed
	// where nobody sees it: in a cluster, on a server. Zero: no attempt is made before AwaitChange returns.
	RecheckAfter time.Duration
	// MayServe is set, by a FailureReporter, for a failure that a health check can disprove: no pod is Ready, but one runs. Connections are
	// made meanwhile.
	MayServe bool
	// AwaitChange waits until what the failure rests on has changed, for example a file, so that another attempt may succeed although nobody
	// has asked for one. It returns false when ctx ends. Nil: there is nothing to wait for. A transient failure is retried anyway.
	AwaitChange func(ctx context.Context) bool
}

// Error returns the reason without the hint.
func (f *Failure) Error() string { return f.Reason }

// AlsoAwaiting returns a copy of the failure that ends also when await returns true.
func (f *Failure) AlsoAwaiting(await func(ctx context.Context) bool) *Failure {
	copied := *f
	if copied.AwaitChange = await; f.AwaitChange != nil {
		copied.AwaitChange = func(ctx context.Context) bool {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			resultCh := make(chan bool, 1)
			go func() {
				defer cancel()
				resultCh <- f.AwaitChange(ctx)
			}()
			hasChanged := await(ctx)
			cancel()
			return <-resultCh || hasChanged
		}
	}
	return &copied
}

// Refusal is a live tunnel's report that one connection failed. The tunnel stays up.
type Refusal struct {
	Reason string // in the tool's own words
	// IsConnectFailure is set if the connect at the far end failed, so that no byte of the client has reached a server. Only then
	// may bytes be replayed. False for read and write errors of an established connection.
	IsConnectFailure bool
	// IsFinal is set if the far end would refuse another attempt too, because it is configured so or does not know the host. The client is not kept waiting. Only
	// for refusals that Dial returns.
	IsFinal bool
	// IsRequest is set if the client itself has chosen the address, as with a SOCKS proxy: the refusal says nothing about the service.
	IsRequest bool
	Hint      string // the next step for the user; may be empty
	// Conn is the connection returned by Dial that the report is about; nil if the tool does not say.
	Conn net.Conn
}

// Error returns the reason.
func (r *Refusal) Error() string { return r.Reason }

// Tunnel is one run of what carries the bytes, for example of an ssh process. Driver.Open returns it when it is ready.
type Tunnel interface {
	// Dial opens one connection through the tunnel: a *net.TCPConn or a *net.UnixConn, so that it can be half-closed and spliced,
	// or a Stream. An error that is a *Refusal says that the far end refused the connection and the tunnel is up; after any other
	// error the caller checks Done.
	Dial(ctx context.Context) (net.Conn, error)
	// Refusals delivers the tunnel's reports about connections after Dial returned. The channel is buffered and never closed; when
	// it is full, reports are dropped. Nil if the tunnel acknowledges or refuses connections in Dial.
	Refusals() <-chan Refusal
	// Acknowledges reports whether a connection returned by Dial is known to have reached the server. If false, only a byte that
	// comes back shows that it has.
	Acknowledges() bool
	// Done is closed when the tunnel has ended, by itself or by Close.
	Done() <-chan struct{}
	// Err says why the tunnel ended: a *Failure, or nil if Close ended it. Valid after Done.
	Err() error
	// Close ends the tunnel and everything it started, gracefully and then by force, and returns when nothing is left. It may be
	// called more than once.
	Close() error
}

// Stream is a connection through a tunnel that has no socket of its own. Read it with Next or with Read, never with both.
type Stream interface {
	net.Conn
	CloseWrite() error
	// Next waits for bytes, which are valid until the next call. The error is io.EOF at the end, net.ErrClosed after Close. By then
	// a refusal of the stream has been reported.
	Next() ([]byte, error)
	// WaitEnd returns nil when the far end has closed the stream in both directions or the tunnel has ended: all bytes of the far
	// end have arrived, and a reset would discard what a client has not read yet. After Close it returns net.ErrClosed.
	WaitEnd() error
	// IsBroken reports, after the end, that the connection was lost and not closed by the far end: the client must see a reset.
	IsBroken() bool
}

// EndsOnRefusal is implemented by a tunnel that ends, with all its connections, when one of them is refused. Its health is not checked
// while it has clients. The method does nothing.
type EndsOnRefusal interface{ EndsOnRefusal() }

// ProcessMonitor is implemented by a tunnel whose process can be suspended (SIGSTOP). The kernel still accepts connections for its
// listener then, so that a connect does not show it.
type ProcessMonitor interface{ IsProcessStopped() bool }

// FailureReporter is implemented by a tunnel that can be up while its connections cannot succeed: the service has no pods, the server
// cannot be reached. Connections wait meanwhile.
type FailureReporter interface {
	// CurrentFailure says why connections fail now; nil if they are not known to.
	CurrentFailure() *Failure
	// FailureChanged receives a signal when CurrentFailure may have changed.
	FailureChanged() <-chan struct{}
}

// NoteReporter is implemented by a tunnel that may have something to say of a service that is healthy.
type NoteReporter interface {
	// Note is what status says of the healthy service, in one line; empty: nothing. It stays the same as long as the tunnel.
	Note() string
}

// ConnectionChecker is implemented by a tunnel that can check its own connection to the far end.
type ConnectionChecker interface {
	// CheckConnection has the tunnel check its connection soon, after a network change, and end if it is dead. It does not block.
	CheckConnection()
}

// ClusterInfo describes a cluster that the tunnels of several services lead into.
type ClusterInfo struct {
	Name      string    // as the config calls it: the context
	Address   string    // of its server
	Failure   *Failure  // what is wrong with it now; nil if nothing is known to be
	ExpiresAt time.Time // when the credential expires; zero: never, or unknown
	IsRenewed bool      // the credential is renewed automatically
}

// Run is what the supervisor provides for one attempt to open a tunnel.
type Run struct {
	ID        string    // identifies the run in logs
	Dir       string    // the project root: the working directory of child processes
	SocketDir string    // a 0700 directory for this run's private sockets; exists, short, removed by the supervisor
	Env       []string  // the whole environment of child processes, in the form of os.Environ
	Log       io.Writer // takes the output of child processes; safe for concurrent use
	// RequestedAt is when the user last requested the tunnel, by start, restart or login; zero if never. A driver ignores failures
	// that it remembers from before.
	RequestedAt time.Time
	// ChangedAt is when what the last failure rests on was last known to have changed, or was looked at again; zero if never. A driver ignores
	// failures that are more than SharedFailureTime older: the first of several services that notice a change makes the attempt for all.
	ChangedAt time.Time
	// RestartedAt is when the user last requested a restart; zero if never. A connection to a server that is older is not shared: the server's
	// settings may have changed.
	RestartedAt time.Time
	// IsUrgent is set if a client waits or the network has changed: the driver makes an attempt even if the last one has just
	// failed.
	IsUrgent bool
	// AskSocket is the path of a unix socket where the user answers questions; empty unless the attempt is a login.
	AskSocket string
	// OnProgress, if not nil, is called by Driver.Open with what it waits for, in a few words without a secret: "ssh is logging in to bastion". It does not
	// block.
	OnProgress func(text string)
}

// ReportProgress calls OnProgress, if there is one.
func (r Run) ReportProgress(text string) {
	if r.OnProgress != nil {
		r.OnProgress(text)
	}
}

// SharedFailureTime is longer than services take, one after the other, to notice the same change.
const SharedFailureTime = 10 * time.Second

// OutdatedBefore is the time before which a driver's remembered failures say nothing any more: of the user's last request, or of the last change.
func (r Run) OutdatedBefore() time.Time {
	if changed := r.ChangedAt.Add(-SharedFailureTime); !r.ChangedAt.IsZero() && changed.After(r.RequestedAt) {
		return changed
	}
	return r.RequestedAt
}

// RunVariable is set in the environment of every child process of a supervisor's tunnels, to the supervisor's run id. A process that
// has it after the supervisor has ended is an orphan.
const RunVariable = "LOCALPORT_RUN"

// TunnelVariable is set to Run.ID in the environment of the processes of a tunnel that may start others in another session.
const TunnelVariable = "LOCALPORT_TUNNEL"
