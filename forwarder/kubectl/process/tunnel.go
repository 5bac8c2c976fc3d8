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
	log       io.Writer
	ref       session.ResourceRef
	addr      string
	addrCh    chan string // gets the address once
	refusalCh chan forwarder.Refusal
	startedCh chan struct{} // closed when Child is set

	transcript process.Transcript // to be read after Done
}

// handleLine takes what kubectl prints, as it comes.
func (t *tunnel) handleLine(_ process.Stream, line string) {
	if isHandlingLine(line) {
		return
	}
	_, _ = io.WriteString(t.log, line+"\n")
	if addr, ok := parseListenAddr(line); ok {
		select {
		case t.addrCh <- addr:
		default: // it listens on one port alone
		}
		return
	}
	message := messageText(line)
	t.transcript.Add(message)
	if refusal, ok := parseRefusal(message); ok {
		select {
		case t.refusalCh <- refusal:
		default:
		}
	}
	if cannotCreateStreams(message) {
		<-t.startedCh
		t.Kill()
	}
}

// waitReady returns when kubectl listens, or says why it will not.
func (t *tunnel) waitReady(ctx context.Context) error {
	select {
	case t.addr = <-t.addrCh:
		return nil
	case <-t.Done():
		return t.exitFailure()
	case <-ctx.Done():
	}
	_ = t.Close()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if f := classifyExit(&t.transcript, t.ref); f != nil {
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
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return t.refusalCh }

// Acknowledges is false: kubectl accepts before it asks the pod.
func (t *tunnel) Acknowledges() bool { return false }

// Fragile marks that one refused connection ends every other.
func (t *tunnel) Fragile() {}

// Err is why kubectl ended, in the line that tells most.
func (t *tunnel) Err() error {
	if t.WasStopped() {
		return nil
	}
	return t.exitFailure()
}

func (t *tunnel) exitFailure() error {
	if f := classifyExit(&t.transcript, t.ref); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: "kubectl ended: " + t.ExitStatus()}
}
