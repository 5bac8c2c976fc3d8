package ssh

import (
	"context"
	"net"
	"regexp"
	"strings"
	"sync"

	"github.com/localport-sh/localport/forwarder"
)

// channels knows which of the tunnel's connections is which channel of ssh's. A socket's connections are accepted in
// the order in which they were made, so the next new channel from our socket belongs to the oldest connection without
// one. An ssh whose words do not fit is not trusted to name any.
type channels struct {
	host, port string // the far end, as ssh names it

	mu       sync.Mutex
	waiting  []net.Conn // dialled, and without a channel yet
	open     map[string]channel
	foreign  bool // the next new channel is of another forward, from the user's own configuration
	confused bool // ssh's words do not fit
}

// mostWaiting is more than can be in the queue of ssh's socket, which holds 128.
const mostWaiting = 256

// channel is one that was opened by a connection to a listener.
type channel struct {
	conn net.Conn // nil where it is not ours, or not known
	ours bool
}

func newChannels(host, port string) channels {
	return channels{host: host, port: port, open: map[string]channel{}}
}

// What ssh prints of channels, as of 7.6 to 10. A unix socket's "port" is -2.
var (
	requested = lazily(`^Connection to port (-?\d+) forwarding to (\S+) port (\d+) requested\.`)
	created   = lazily(`^channel (\d+): new (?:direct-tcpip )?\[direct-tcpip\]`)
	freed     = lazily(`^channel (\d+): free: `)
	failed    = lazily(`^channel (\d+): (open failed: .*)`)
)

// lazily is an expression that is compiled when it is first used: what this package initialises is paid for by every
// start of the program, a prompt's too.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// dial connects to ssh. It holds the lock meanwhile, which is never long with a unix socket, so that the order of
// waiting is the order of the connections, and no word of ssh's about one is heard before it is noted.
func (c *channels) dial(ctx context.Context, socket string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if c.waiting = append(c.waiting, conn); len(c.waiting) > mostWaiting {
		c.confused = true
	}
	if c.confused {
		c.waiting = nil
	}
	return conn, nil
}

// debug takes what ssh prints at DEBUG1.
func (c *channels) debug(words string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := requested().FindStringSubmatch(words); m != nil {
		c.foreign = m[1] != "-2" || m[2] != c.host || m[3] != c.port
	} else if m := created().FindStringSubmatch(words); m != nil {
		c.open[m[1]] = c.next()
	} else if m := freed().FindStringSubmatch(words); m != nil {
		delete(c.open, m[1])
	}
}

func (c *channels) next() channel {
	if c.foreign {
		return channel{}
	}
	if len(c.waiting) == 0 {
		c.confused = true
	}
	if c.confused {
		c.waiting = nil
		return channel{ours: true}
	}
	conn := c.waiting[0]
	c.waiting = c.waiting[1:]
	return channel{conn: conn, ours: true}
}

// failed reads the line that says that a channel could not be opened, and whether it was one of ours. Nothing that
// was sent on it has reached a server, whatever the reason.
func (c *channels) failed(line string) (refusal forwarder.Refusal, is, ours bool) {
	m := failed().FindStringSubmatch(line)
	if m == nil {
		return forwarder.Refusal{}, false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	refusal = forwarder.Refusal{Reason: strings.TrimSpace(m[2]), Connect: true}
	if ch, known := c.open[m[1]]; known {
		refusal.Conn = ch.conn
		return refusal, true, ch.ours
	}
	return refusal, true, true
}
