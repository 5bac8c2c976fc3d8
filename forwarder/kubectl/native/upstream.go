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
	pod, uid string
	requests atomic.Uint64
	pinged   atomic.Bool // a ping is under way

	// Guarded by the pool's lock.
	clients int
	leaving int       // clients that have said their last: a node keeps their connections for a second all the same
	soiled  bool      // a connection through it did not end in good order
	idle    time.Time // since when it has no client
}

// pair is the two streams of a connection to a port in the pod: its bytes, and what the node says of its end.
type pair struct {
	up   *upstream
	data *spdy.Stream
	errs *spdy.Stream
}

// open opens a connection to a port. That the node has taken it up is known when the data stream is replied to; whether
// anything listens there is only said where nothing does.
func (u *upstream) open(port int) (*pair, error) {
	id := strconv.FormatUint(u.requests.Add(1), 10)
	headers := func(kind string) []spdy.Header {
		return []spdy.Header{{Name: headerType, Value: kind}, {Name: headerPort, Value: strconv.Itoa(port)}, {Name: headerRequest, Value: id}}
	}
	errs, err := u.Open(headers(typeError), true)
	if err != nil {
		return nil, err
	}
	data, err := u.Open(headers(typeData), false)
	if err != nil {
		return nil, err
	}
	return &pair{up: u, data: data, errs: errs}, nil
}

// errUnanswered is a node that did not take a connection up.
var errUnanswered = errors.New("the node did not take the connection up in time")

// replied waits until the node has taken the connection up.
func (p *pair) replied(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.data.Replied():
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errUnanswered
	}
	if err := p.data.Ended(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// settle is how long a node may take to say why a connection ended before a byte came back.
const settle = time.Second

// why is what the node says of the end of a connection. It says that before the end, as far as is known; where no byte
// has come back, and the client could be helped, that is waited for.
func (p *pair) why(answered bool) string {
	if !answered {
		timer := time.AfterFunc(settle, p.errs.Abort)
		defer timer.Stop()
		var text strings.Builder
		_, _ = p.errs.WriteTo(&limited{&text})
		return strings.TrimSpace(text.String())
	}
	return strings.TrimSpace(string(p.errs.Waiting()))
}

// limited takes some kilobytes and drops the rest.
type limited struct{ *strings.Builder }

func (l *limited) Write(b []byte) (int, error) {
	if l.Len() < 4<<10 {
		l.Builder.Write(b)
	}
	return len(b), nil
}

// abort drops both streams.
func (p *pair) abort() {
	p.data.Abort()
	p.errs.Abort()
}

// refusal reads what a node says of a connection's end. Only a failed connect leaves the client's bytes unsent; a text
// that speaks of reading or writing may quote anything.
func refusal(text string) (r forwarder.Refusal, refused bool) {
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
	return forwarder.Refusal{Reason: shorten(text), Connect: connect && !transfer}, true
}

// shorten leaves out where in its own namespaces a node looked.
func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if before, after, ok := strings.Cut(text, "failed to execute portforward in network namespace "); ok {
		if _, rest, ok := strings.Cut(after, ": "); ok {
			text = before + rest
		}
	}
	return text
}
