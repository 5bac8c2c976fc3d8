package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/testdata/sshd"
)

// serveOneChannel plays a master that confirms the first channel after a delay. It returns the types of all messages that it was sent.
func serveOneChannel(conn net.Conn, delay time.Duration) (kinds []byte) {
	confirmation := appendUint32(appendUint32(appendUint32(appendUint32(nil, 0), 7), 1<<20), maxPacketSize)
	defer conn.Close()
	for {
		var header [messageHeaderSize]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return kinds
		}
		kinds = append(kinds, header[5])
		if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(header[:])-2)); err != nil {
			return kinds
		}
		if header[5] == messageChannelOpen {
			time.AfterFunc(delay, func() { _, _ = conn.Write(encodeMessage(messageOpenConfirmation, confirmation)) })
		}
	}
}

func TestConn_AcknowledgesConfirmationUnlessSomethingIsSent(t *testing.T) {
	for name, test := range map[string]struct {
		delay     time.Duration
		afterOpen func(*Stream)
		want      []byte
	}{
		"the client waits":        {0, func(*Stream) {}, []byte{messageChannelOpen, messageIgnore, messageClose}},
		"the client speaks first": {0, func(s *Stream) { _, _ = s.Write([]byte("x")) }, []byte{messageChannelOpen, messageData, messageClose}},
		"the client has closed":   {0, func(s *Stream) { _ = s.Close() }, []byte{messageChannelOpen, messageClose}},
		"the server needs 2 ms":   {2 * time.Millisecond, func(s *Stream) { _ = s.Close() }, []byte{messageChannelOpen, messageIgnore, messageClose}},
		"the server needs a second": {
			time.Second, func(s *Stream) { _ = s.Close() },
			[]byte{messageChannelOpen, messageIgnore, messageIgnore, messageIgnore, messageClose},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				c := newConn(ours)
				kindsCh := make(chan []byte, 1)
				go func() { kindsCh <- serveOneChannel(theirs, test.delay) }()
				s, err := c.Open(t.Context(), "h", 1)
				if err != nil {
					t.Fatal(err)
				}
				test.afterOpen(s)
				time.Sleep(time.Second)
				_ = s.Close()
				_ = c.Close()
				if kinds := <-kindsCh; !slices.Equal(kinds, test.want) {
					t.Errorf("sent messages of the types %v, want %v", kinds, test.want)
				}
			})
		})
	}
}

// A master that stops reading does not keep a request for a channel from ending with its context.
func TestConn_OpenEndsWithItsContextWhileTheMasterDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours)
		readCh := make(chan error, 1)
		go func() { // reads the request, and nothing after it
			var header [messageHeaderSize]byte
			_, err := io.ReadFull(theirs, header[:])
			if err == nil {
				_, err = io.CopyN(io.Discard, theirs, int64(binary.BigEndian.Uint32(header[:])-2))
			}
			readCh <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		resultCh := make(chan error, 1)
		go func() {
			_, err := c.openChannel(ctx, "direct-tcpip", nil)
			resultCh <- err
		}()
		time.Sleep(3*time.Second + time.Millisecond)
		select {
		case err := <-resultCh:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		default:
			t.Error("the request has not ended")
		}
		_ = theirs.Close()
		if err := <-readCh; err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
}

// The real master passes the message on, and the real server says nothing about it. BenchmarkTable measures what it is for.
func TestConn_AcknowledgementIsNoErrorForServer(t *testing.T) {
	server := sshd.Start(t, "LogLevel VERBOSE")
	c := openConn(t, server)
	releaseCh := make(chan struct{})
	port := startServer(t, func(conn *net.TCPConn) {
		<-releaseCh
		_, _ = conn.Write([]byte("hello"))
		_, _ = io.Copy(io.Discard, conn)
	})
	sent := c.sendCount.Load()
	s := openStream(t, c, port)
	for c.sendCount.Load() < sent+2 { // the request for the channel, and the message
		runtime.Gosched()
	}
	close(releaseCh)
	if data, err := s.Next(); err != nil || string(data) != "hello" {
		t.Fatalf("got %q, %v", data, err)
	}
	_ = s.Close()
	for line := range strings.Lines(server.Log()) {
		if strings.Contains(strings.ToLower(line), "ignore") || strings.Contains(line, "error") {
			t.Errorf("the server logged %q", line)
		}
	}
}
