package process

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/process"
)

// tunnel is one run of kubectl port-forward.
type tunnel struct {
	*process.Child
	log      io.Writer
	at       session.Words
	addr     string
	ready    chan string // gets the address once
	refusals chan forwarder.Refusal
	started  chan struct{} // closed when Child is set

	said process.Said // to be read after Done
}

// line takes what kubectl prints, as it comes.
func (t *tunnel) line(_ process.Stream, line string) {
	if handling(line) {
		return
	}
	_, _ = io.WriteString(t.log, line+"\n")
	if addr, ok := listening(line); ok {
		select {
		case t.ready <- addr:
		default: // it listens on one port alone
		}
		return
	}
	words := plain(line)
	t.said.Add(words)
	if refusal, ok := refused(words); ok {
		select {
		case t.refusals <- refusal:
		default:
		}
	}
	if hopeless(words) {
		<-t.started
		t.Kill()
	}
}

// await returns when kubectl listens, or says why it will not.
func (t *tunnel) await(ctx context.Context) error {
	select {
	case t.addr = <-t.ready:
		return nil
	case <-t.Done():
		return t.failure()
	case <-ctx.Done():
	}
	_ = t.Close()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if f := explain(&t.said, t.at); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: "kubectl was not ready in time"}
}

// Dial connects to kubectl, which accepts whatever may be behind it.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-t.Done(): // the port may be anybody's by now
		return nil, net.ErrClosed
	default:
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp4", t.addr)
}

// Refusals are what kubectl says of connections. It names none, and ends itself after each.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return t.refusals }

// Acknowledges is false: kubectl accepts before it asks the pod.
func (t *tunnel) Acknowledges() bool { return false }

// Fragile marks that one refused connection ends every other.
func (t *tunnel) Fragile() {}

// Err is why kubectl ended, in the line that tells most.
func (t *tunnel) Err() error {
	if t.Stopped() {
		return nil
	}
	return t.failure()
}

func (t *tunnel) failure() error {
	if f := explain(&t.said, t.at); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: "kubectl ended: " + t.Status()}
}
