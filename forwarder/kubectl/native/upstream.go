package native

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
)

// Headers of the streams of a port forward: the constants of k8s.io/api/core/v1 in lower case, as SPDY requires.
const (
	headerType    = "streamtype"
	headerPort    = "port"
	headerRequest = "requestid"
	typeData      = "data"
	typeError     = "error"
)

// upstream is a connection to a pod through the API server and the node. It carries one client's connection at a time, or several
// if opening one for each takes too long.
type upstream struct {
	*spdy.Conn
	pod, uid      string
	lastRequestID atomic.Uint64
	isPinging     atomic.Bool // a ping is in progress

	// Guarded by the pool's mu.
	clients           int
	halfClosedClients int       // clients that have half-closed; a node keeps their connections for another second
	isDraining        bool      // no further client may use it: a connection through it was lost, or could not be opened in time
	idleSince         time.Time // when its last client left
}

// streamPair is the two streams of a connection to a port in the pod: the data, and the node's error message.
type streamPair struct {
	upstream    *upstream
	dataStream  *spdy.Stream
	errorStream *spdy.Stream
}

// openStreams opens a connection to a port. The node accepts it by replying to the data stream, before it connects to the port; only
// a failed connect is reported.
func (u *upstream) openStreams(port int) (*streamPair, error) {
	id := strconv.FormatUint(u.lastRequestID.Add(1), 10)
	headers := func(kind string) []spdy.Header {
		return []spdy.Header{{Name: headerType, Value: kind}, {Name: headerPort, Value: strconv.Itoa(port)}, {Name: headerRequest, Value: id}}
	}
	errs, err := u.OpenStream(headers(typeError), true)
	if err != nil {
		return nil, err
	}
	data, err := u.OpenStream(headers(typeData), false)
	if err != nil {
		return nil, err
	}
	return &streamPair{upstream: u, dataStream: data, errorStream: errs}, nil
}

// errNotAccepted says that a node did not reply within replyTimeout.
var errNotAccepted = errors.New("the node did not accept the connection in time")

// waitReplied waits until the node has accepted the connection.
func (p *streamPair) waitReplied(ctx context.Context, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.dataStream.Replied():
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errNotAccepted
	}
	if err := p.dataStream.EndErr(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// endReasonTimeout is how long a node may take, after the end of the data, to report why a connection ended. Known nodes close both
// streams together, so that nobody waits for long: the report of a reset came up to 9 ms after the end of the data, on a busy machine.
const endReasonTimeout = time.Second

// readEndReason waits for the node's error message, and returns it; empty if there is none. Some nodes send it before the end of the data,
// containerd also after it. A node that sends neither a message nor its end in time may still be receiving.
func (p *streamPair) readEndReason() string {
	p.errorStream.SetReadDeadline(time.Now().Add(endReasonTimeout))
	defer p.errorStream.SetReadDeadline(time.Time{})
	return p.readErrorMessage()
}

// readErrorMessage returns the node's error message when its stream has ended, or what there is of it at the read deadline.
func (p *streamPair) readErrorMessage() string {
	var text strings.Builder
	_, _ = p.errorStream.WriteTo(&limitedBuilder{&text})
	return strings.TrimSpace(text.String())
}

// limitedBuilder keeps the first few kilobytes and drops the rest.
type limitedBuilder struct{ *strings.Builder }

func (l *limitedBuilder) Write(b []byte) (int, error) {
	if l.Len() < 4<<10 {
		l.Builder.Write(b)
	}
	return len(b), nil
}

// abort resets both streams.
func (p *streamPair) abort() {
	p.dataStream.Abort()
	p.errorStream.Abort()
}

// parseRefusal parses a node's error message; false if it is empty.
func parseRefusal(text string) (r forwarder.Refusal, isRefused bool) {
	if text == "" {
		return r, false
	}
	return forwarder.Refusal{Reason: shortenReason(text), IsConnectFailure: session.IsConnectFailure(text)}, true
}

// isNothingListening reports whether a node's message about a failed connect says that no program listens on the port.
func isNothingListening(reason string) bool {
	return strings.Contains(strings.ToLower(reason), "connection refused")
}

// shortenReason removes the node's network namespace from a message.
func shortenReason(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if before, after, ok := strings.Cut(text, "failed to execute portforward in network namespace "); ok {
		if _, rest, ok := strings.Cut(after, ": "); ok {
			text = before + rest
		}
	}
	return text
}
