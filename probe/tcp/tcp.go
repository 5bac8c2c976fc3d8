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
// second.
func Check(ctx context.Context, dialer probe.Dialer) error {
	conn, err := dialer.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if dialer.Acknowledges() {
		return nil
	}
	return checkStaysOpen(ctx, conn)
}

// readTimeout returns stayOpenTime, or nine tenths of the time left until the deadline, so that the check ends before it.
func readTimeout(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return stayOpenTime
	}
	return max(min(stayOpenTime, time.Until(deadline)*9/10), 0)
}

func checkStaysOpen(ctx context.Context, conn net.Conn) error {
	deadline := time.Now().Add(readTimeout(ctx))
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	_, err := io.ReadFull(conn, make([]byte, 1))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return errClosed
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}
