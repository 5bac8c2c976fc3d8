package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of clients. A connection may wait for its tunnel as long as the projects' connect_timeout says.
const (
	recordPace   = 20 * time.Millisecond
	visitPace    = 80 * time.Millisecond
	connectLimit = 10 * time.Second
	answerLimit  = connectLimit + 5*time.Second
)

var clientNumber atomic.Uint64

// talk is one connection to a service that sends records and reads their acknowledgements.
type talk struct {
	name   string
	conn   net.Conn
	reader *bufio.Reader
	number int
}

func dialTalk(addr string) (*talk, error) {
	conn, err := net.DialTimeout("tcp", addr, answerLimit)
	if err != nil {
		return nil, err
	}
	name := "c" + strconv.FormatUint(clientNumber.Add(1), 10)
	return &talk{name: name, conn: conn, reader: bufio.NewReader(conn)}, nil
}

// send sends a record and returns when it has been acknowledged.
func (t *talk) send() error {
	t.number++
	_ = t.conn.SetDeadline(time.Now().Add(answerLimit))
	if _, err := fmt.Fprintf(t.conn, "%s %d\n", t.name, t.number); err != nil {
		return err
	}
	answer, err := t.reader.ReadString('\n')
	if err != nil {
		return fmt.Errorf("record %d: %w after %d bytes of the acknowledgement", t.number, err, len(answer))
	}
	if want := fmt.Sprintf("%s %d%s\n", t.name, t.number, padding); answer != want {
		return fmt.Errorf("record %d was acknowledged by %q", t.number, answer)
	}
	return nil
}

// visit opens a connection, has one record acknowledged, and ends.
func visit(addr string) error {
	t, err := dialTalk(addr)
	if err != nil {
		return err
	}
	defer t.conn.Close()
	return t.send()
}

// crowd is the clients of one service: one whose connection stays open, and visitors that come again and again.
type crowd struct {
	service   string
	addr      string
	fail      func(format string, args ...any)
	mayBreak  atomic.Bool // an established connection may end; a new one is accepted all the same
	mayRefuse atomic.Bool // a visitor may be turned away
	isReset   atomic.Bool // what ends the established connection is a reset by the far end

	quit    chan struct{}
	running sync.WaitGroup
	stay    *talk
	broken  atomic.Bool
}

// startCrowd returns when the first connection is established and has been answered.
func startCrowd(service, addr string, fail func(string, ...any)) (*crowd, error) {
	c := &crowd{service: service, addr: addr, fail: fail, quit: make(chan struct{})}
	var err error
	if c.stay, err = dialTalk(addr); err != nil {
		return nil, err
	}
	if err := c.stay.send(); err != nil {
		c.stay.conn.Close()
		return nil, err
	}
	c.running.Go(c.keepTalking)
	c.running.Go(c.keepVisiting)
	return c, nil
}

func (c *crowd) keepTalking() {
	tick := time.NewTicker(recordPace)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-tick.C:
		}
		if err := c.stay.send(); err != nil {
			c.broken.Store(true)
			if c.isReset.Load() && errors.Is(err, io.EOF) && !c.ended() {
				c.fail("the far end reset the connection of %s, and its client saw a proper end", c.service)
			}
			if !c.mayBreak.Load() && !c.ended() {
				c.fail("the connection of %s from %v broke, which nothing accounts for: %v", c.service, c.stay.conn.LocalAddr(), err)
			}
			return
		}
	}
}

func (c *crowd) keepVisiting() {
	tick := time.NewTicker(visitPace)
	defer tick.Stop()
	var visits sync.WaitGroup
	defer visits.Wait()
	for {
		select {
		case <-c.quit:
			return
		case <-tick.C:
		}
		visits.Go(func() {
			allowed := c.mayRefuse.Load()
			began := time.Now()
			err := visit(c.addr)
			isRefused := errors.Is(err, syscall.ECONNREFUSED)
			if err != nil && !allowed && !c.mayRefuse.Load() && (isRefused || !c.mayBreak.Load()) && !c.ended() {
				what := "was not served"
				if isRefused {
					what = "was refused"
				}
				c.fail("a new client of %s %s after %v, which nothing accounts for: %v", c.service, what, time.Since(began), err)
			}
		})
	}
}

func (c *crowd) ended() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}

// stop closes the connection and returns when all visitors have gone.
func (c *crowd) stop() {
	close(c.quit)
	c.stay.conn.Close()
	c.running.Wait()
}
