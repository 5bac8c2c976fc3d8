package relay

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// keepAccepting takes clients until the listener is closed, also after a panic.
func (r *Relay) keepAccepting(l *net.TCPListener) {
	var delay time.Duration
	for panicked := true; panicked; {
		panicked = false
		forwarder.Contain(func() { r.accept(l) }, func(failure *forwarder.Failure, stack []byte) {
			r.options.OnBroken(nil, failure, stack)
			delay = backOff(delay)
			panicked = r.rest(delay)
		})
	}
}

// accept takes clients until the listener is closed. Nothing else ends it: when files or memory run out, new
// connections queue up in the kernel, unrefused, and are taken once there is room again.
func (r *Relay) accept(l *net.TCPListener) {
	var delay time.Duration
	for {
		conn, err := l.AcceptTCP()
		switch {
		case err == nil:
			delay = 0
			if !r.seat(conn) {
				return
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if delay == 0 {
				r.options.Log.Warn("cannot accept connections", "address", l.Addr().String(), "err", err)
			}
			delay = backOff(delay)
			if !r.rest(delay) {
				return
			}
		}
	}
}

// seat takes an accepted client in once there is room for it; false when accepting has ended meanwhile.
func (r *Relay) seat(conn *net.TCPConn) bool {
	select {
	case seats() <- struct{}{}:
		r.enter(conn)
		return true
	case <-r.deaf:
		reset(conn)
		return false
	}
}

// seats are for the clients of all relays of the process. There are so many that each can have its connection through
// a tunnel: otherwise clients that wait could take every file, and with them the hope of what they wait for.
var seats = sync.OnceValue(func() chan struct{} {
	const many = 1 << 20
	limit := uint64(many)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		limit = min(limit, files.Cur)
	}
	return make(chan struct{}, max(1, (limit-min(limit/4, 64))/2))
})

// backOff is the delay after the one that was.
func backOff(delay time.Duration) time.Duration {
	return max(5*time.Millisecond, min(2*delay, time.Second))
}

// rest waits, and is false when accepting has ended meanwhile.
func (r *Relay) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.deaf:
		return false
	}
}
