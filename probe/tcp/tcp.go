// Package tcp checks that a service accepts a connection and keeps it.
package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "tcp", the default.
var Type = probe.Type{
	CheckType: project.CheckType{Name: project.CheckTCP},
	New:       func(project.Settings) (probe.Check, error) { return Check, nil },
}

// stayOpenTime is how long a connection must stay open to count as healthy if nothing acknowledged it and the server does
// not send first. A tunnel reports a refused connect sooner.
const stayOpenTime = time.Second

// errClosed reports a service that accepts and closes; a tunnel with nothing behind it looks the same.
var errClosed = errors.New("the server closed the connection immediately")

// Check succeeds if the tunnel acknowledges the connection, or a byte is received, or the connection is still open after a
// second. If the far end can be asked for an answer, it reports that as an early success.
func Check(ctx context.Context, dialer probe.Dialer) error {
	conn, err := dialer.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if dialer.Acknowledges() {
		return nil
	}
	deadline := time.Now().Add(readTimeout(ctx))
	if early, ok := dialer.(probe.EarlySuccessReporter); ok {
		if isDone, err := checkEarly(ctx, conn, deadline, early); isDone {
			return err
		}
	}
	return checkStaysOpen(ctx, conn, deadline)
}

// A refused connect is usually reported within refusalDelay after the answer to a ping, or within a few round trips if those take longer. Of 1,000
// refusals of a containerd node, the last came after 5 ms, and after 11 ms beside four busy loops (BenchmarkConn_RefusalAfterPing in
// forwarder/kubectl/native).
const (
	refusalDelay      = 50 * time.Millisecond
	refusalRoundTrips = 4
)

// checkEarly reports an early success if the far end answers a ping and does not refuse the connection soon after. isDone is true if the check
// has its result.
func checkEarly(ctx context.Context, conn net.Conn, deadline time.Time, early probe.EarlySuccessReporter) (isDone bool, err error) {
	pinger, ok := conn.(probe.Pinger)
	if !ok {
		return false, nil
	}
	pingCtx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	start := time.Now()
	if pinger.Ping(pingCtx) != nil {
		return false, nil
	}
	roundTrip := time.Since(start)
	earlyDeadline := time.Now().Add(max(refusalDelay, refusalRoundTrips*roundTrip))
	if !earlyDeadline.Before(deadline) {
		return false, nil
	}
	if err := readByte(ctx, conn, earlyDeadline); !errors.Is(err, os.ErrDeadlineExceeded) {
		return true, err
	}
	early.ReportEarlySuccess(roundTrip)
	return false, nil
}

// readTimeout returns stayOpenTime, or nine tenths of the time left until the deadline, so that the check ends before it.
func readTimeout(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return stayOpenTime
	}
	return max(min(stayOpenTime, time.Until(deadline)*9/10), 0)
}

// checkStaysOpen succeeds if a byte arrives, or the connection is still open at the deadline.
func checkStaysOpen(ctx context.Context, conn net.Conn, deadline time.Time) error {
	if err := readByte(ctx, conn, deadline); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// readByte waits for a byte until the deadline, at which the error is os.ErrDeadlineExceeded. If this process notices the deadline late, because the
// machine is busy, it looks once more: the end of the connection may have arrived in time, but a deadline that has passed is reported first.
func readByte(ctx context.Context, conn net.Conn, deadline time.Time) error {
	err := readByteUntil(ctx, conn, deadline)
	if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(deadline) <= refusalDelay/2 {
		return err
	}
	if lookErr := readByteUntil(ctx, conn, time.Now().Add(refusalDelay)); ctx.Err() == nil {
		return lookErr
	}
	return err // the time of the whole check is up, which says nothing of the connection
}

func readByteUntil(ctx context.Context, conn net.Conn, deadline time.Time) error {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.ReadFull(conn, make([]byte, 1))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return errClosed
	}
	return err
}
