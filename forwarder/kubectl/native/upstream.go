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
	"github.com/localport-sh/localport/forwarder/kubectl/spdy"
)

// The names of the headers that a stream of a port forward is opened with, as the API's types have them.
const (
	headerType    = "streamtype"
	headerPort    = "port"
	headerRequest = "requestid"
	typeData      = "data"
	typeError     = "error"
)

// upstream is a connection to a pod through the API server and the node, which carries one client's connection at a time,
// or several where opening one for each would take too long.
type upstream struct {
	*spdy.Conn
	pod, uid      string
	lastRequestID atomic.Uint64
	isPinging     atomic.Bool // a ping is under way

	// Guarded by the pool's lock.
	clients   int
	leaving   int       // clients that have said their last: a node keeps their connections for a second all the same
	isRetired bool      // a connection through it did not end in good order
	idleSince time.Time // since when it has no client
}

// streamPair is the two streams of a connection to a port in the pod: its bytes, and what the node says of its end.
type streamPair struct {
	upstream    *upstream
	dataStream  *spdy.Stream
	errorStream *spdy.Stream
}

// openStreams opens a connection to a port. That the node has taken it up is known when the data stream is replied to; whether
// anything listens there is only said where nothing does.
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

// errNotAccepted is a node that did not take a connection up.
var errNotAccepted = errors.New("the node did not take the connection up in time")

// waitReplied waits until the node has taken the connection up.
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

// endReasonTimeout is how long a node may take to say why a connection ended before a byte came back.
const endReasonTimeout = time.Second

// readEndReason is what the node says of the end of a connection. It says that before the end, as far as is known; where no byte
// has come back, and the client could be helped, that is waited for.
func (p *streamPair) readEndReason(hasReceived bool) string {
	if !hasReceived {
		timer := time.AfterFunc(endReasonTimeout, p.errorStream.Abort)
		defer timer.Stop()
		var text strings.Builder
		_, _ = p.errorStream.WriteTo(&limitedBuilder{&text})
		return strings.TrimSpace(text.String())
	}
	return strings.TrimSpace(string(p.errorStream.PeekQueued()))
}

// limitedBuilder takes some kilobytes and drops the rest.
type limitedBuilder struct{ *strings.Builder }

func (l *limitedBuilder) Write(b []byte) (int, error) {
	if l.Len() < 4<<10 {
		l.Builder.Write(b)
	}
	return len(b), nil
}

// abort drops both streams.
func (p *streamPair) abort() {
	p.dataStream.Abort()
	p.errorStream.Abort()
}

// parseRefusal reads what a node says of a connection's end. Only a failed connect leaves the client's bytes unsent; a text
// that speaks of reading or writing may quote anything.
func parseRefusal(text string) (r forwarder.Refusal, isRefused bool) {
	if text == "" {
		return r, false
	}
	lower := strings.ToLower(text)
	connect := strings.Contains(lower, "connection refused") ||
		strings.Contains(lower, "failed to find sandbox") ||
		strings.Contains(lower, "network namespace for sandbox") && strings.Contains(lower, "is closed") ||
		strings.Contains(lower, "failed to connect to localhost") ||
		strings.Contains(lower, "is not running") && strings.Contains(lower, "sandbox container")
	transfer := strings.Contains(lower, "read tcp") || strings.Contains(lower, "write tcp") || strings.Contains(lower, "error copying")
	return forwarder.Refusal{Reason: shortenReason(text), Connect: connect && !transfer}, true
}

// shortenReason leaves out where in its own namespaces a node looked.
func shortenReason(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if before, after, ok := strings.Cut(text, "failed to execute portforward in network namespace "); ok {
		if _, rest, ok := strings.Cut(after, ": "); ok {
			text = before + rest
		}
	}
	return text
}
