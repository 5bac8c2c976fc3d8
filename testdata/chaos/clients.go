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

// connectTimeout is the connect_timeout of the projects' services: a connection may wait that long for its tunnel.
const (
	recordInterval    = 20 * time.Millisecond
	newClientInterval = 80 * time.Millisecond
	connectTimeout    = 10 * time.Second
	answerTimeout     = connectTimeout + 5*time.Second
)

var lastClientNumber atomic.Uint64

// recordConn is a client's connection to a service. It sends numbered records and reads their acknowledgements.
type recordConn struct {
	clientName string
	conn       net.Conn
	reader     *bufio.Reader
	lastRecord int // the number of the record that was sent last
}

func dialRecordConn(addr string) (*recordConn, error) {
	conn, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		return nil, err
	}
	name := "c" + strconv.FormatUint(lastClientNumber.Add(1), 10)
	return &recordConn{clientName: name, conn: conn, reader: bufio.NewReader(conn)}, nil
}

// sendRecord sends a record and returns when it has been acknowledged.
func (c *recordConn) sendRecord() error {
	c.lastRecord++
	_ = c.conn.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := fmt.Fprintf(c.conn, "%s %d\n", c.clientName, c.lastRecord); err != nil {
		return err
	}
	answer, err := c.reader.ReadString('\n')
	if err != nil {
		return fmt.Errorf("record %d: %w after %d bytes of the acknowledgement", c.lastRecord, err, len(answer))
	}
	if want := fmt.Sprintf("%s %d%s\n", c.clientName, c.lastRecord, padding); answer != want {
		return fmt.Errorf("record %d was acknowledged by %q", c.lastRecord, answer)
	}
	return nil
}

// sendOneRecord opens a connection, sends one record, waits for the acknowledgement and closes the connection.
func sendOneRecord(addr string) error {
	c, err := dialRecordConn(addr)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	return c.sendRecord()
}

// serviceClients are the clients of one service: one whose connection stays open, and short ones, a new one each newClientInterval.
type serviceClients struct {
	service      string
	addr         string
	fail         func(format string, args ...any)
	mayLoseConn  atomic.Bool // an established connection may end; a new one must still be accepted
	mayBeRefused atomic.Bool // a new connection may be refused or fail
	expectsReset atomic.Bool // the upstream is about to reset the established connection
	isExplained  func() bool // an event of another project has ended connections

	stopCh     chan struct{}
	goroutines sync.WaitGroup
	longConn   *recordConn
}

// connectServiceClients returns when the upstream has acknowledged the first record of the connection that stays open. The
// caller calls stop.
func connectServiceClients(service, addr string, fail func(string, ...any), isExplained func() bool) (*serviceClients, error) {
	c := &serviceClients{service: service, addr: addr, fail: fail, isExplained: isExplained, stopCh: make(chan struct{})}
	var err error
	if c.longConn, err = dialRecordConn(addr); err != nil {
		return nil, err
	}
	if err := c.longConn.sendRecord(); err != nil {
		c.longConn.conn.Close()
		return nil, err
	}
	c.goroutines.Go(c.sendRecords)
	c.goroutines.Go(c.openConnections)
	return c, nil
}

func (c *serviceClients) sendRecords() {
	tick := time.NewTicker(recordInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.stopCh:
			return
		case <-tick.C:
		}
		if err := c.longConn.sendRecord(); err != nil {
			if c.expectsReset.Load() && errors.Is(err, io.EOF) && !c.isStopped() {
				c.fail("the upstream reset the connection of %s, and its client saw an orderly end", c.service)
			}
			if !c.mayLoseConn.Load() && !c.isStopped() && !c.isExplained() {
				c.fail("the connection of %s from %v broke, and no event explains it: %v", c.service, c.longConn.conn.LocalAddr(), err)
			}
			return
		}
	}
}

func (c *serviceClients) openConnections() {
	tick := time.NewTicker(newClientInterval)
	defer tick.Stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		select {
		case <-c.stopCh:
			return
		case <-tick.C:
		}
		clients.Go(func() {
			couldBeRefused := c.mayBeRefused.Load()
			startedAt := time.Now()
			err := sendOneRecord(c.addr)
			isRefused := errors.Is(err, syscall.ECONNREFUSED)
			if err != nil && !couldBeRefused && !c.mayBeRefused.Load() && (isRefused || !c.mayLoseConn.Load() && !c.isExplained()) && !c.isStopped() {
				outcome := "was not served"
				if isRefused {
					outcome = "was refused"
				}
				c.fail("a new client of %s %s after %v, and no event explains it: %v", c.service, outcome, time.Since(startedAt), err)
			}
		})
	}
}

func (c *serviceClients) isStopped() bool {
	select {
	case <-c.stopCh:
		return true
	default:
		return false
	}
}

// stop closes the connection and returns when every other client has ended too.
func (c *serviceClients) stop() {
	close(c.stopCh)
	c.longConn.conn.Close()
	c.goroutines.Wait()
}
