package process

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/wait"
)

// tunnel is one run of kubectl port-forward.
type tunnel struct {
	*process.Child
	log       *process.LogBuffer
	spec      Spec
	startedAt time.Time
	addr      string
	addrCh    chan string // receives the address once
	refusalCh chan forwarder.Refusal
	startedCh chan struct{} // closed when Child is set

	transcript process.Transcript // may be read after Done
}

// handleLine handles a line of kubectl's output.
func (t *tunnel) handleLine(_ process.Stream, line string) {
	if isHandlingLine(line) {
		return
	}
	t.log.Add(line)
	if addr, ok := parseListenAddr(line); ok {
		select {
		case t.addrCh <- addr:
		default: // kubectl listens on one port only
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

// waitReady waits until kubectl listens; its error is why it does not.
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
	if f := t.classifyExit(); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: "kubectl did not start listening in time"}
}

// Dial connects to kubectl, which accepts every connection, whether or not the pod does.
func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	if wait.IsClosed(t.Done()) { // another program may listen on the port by now
		return nil, net.ErrClosed
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp4", t.addr)
}

// Refusals delivers kubectl's reports of failed connections. They name no connection, and kubectl exits after each.
func (t *tunnel) Refusals() <-chan forwarder.Refusal { return t.refusalCh }

// Acknowledges is false: kubectl accepts a connection before it connects to the pod.
func (t *tunnel) Acknowledges() bool { return false }

// EndsOnRefusal implements forwarder.EndsOnRefusal: after one refused connection kubectl exits.
func (t *tunnel) EndsOnRefusal() {}

// Err is why kubectl ended: the most specific line that it printed.
func (t *tunnel) Err() error {
	if t.WasStopped() {
		return nil
	}
	return t.spec.Files.ReconsiderError(t.exitFailure())
}

func (t *tunnel) exitFailure() error {
	if f := t.classifyExit(); f != nil {
		return f
	}
	return &forwarder.Failure{Reason: "kubectl exited: " + t.ExitStatus()}
}

// classifyExit is why kubectl ended, with a hint at the contexts that exist if it did not find the one it was to use; nil if it printed
// nothing.
func (t *tunnel) classifyExit() *forwarder.Failure {
	running := time.Since(t.startedAt)
	if f := classifyLoginFailure(&t.transcript, t.spec.ResourceRef, running); f != nil {
		if t.spec.OnLoginFailure != nil {
			t.spec.OnLoginFailure(f)
		}
		return f
	}
	f := classifyExit(&t.transcript, t.spec.ResourceRef)
	if f != nil && missingContextPattern().MatchString(f.Reason) {
		f.Hint = t.spec.Files.ContextHint()
	}
	return f
}
