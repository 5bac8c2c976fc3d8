package mux

import (
	"context"
	"net"
	"testing"
	"time"
)

// A master is a program of the user's own, and yet whatever comes from it must end the connection or be passed over.
func FuzzWhateverTheMasterSays(f *testing.F) {
	opened := number(number(number(number([]byte{0, 0, 0, 18, 0, channelOpened}, 0), 7), 1<<20), 1<<15)
	f.Add(opened)
	f.Add(append(opened, append(number(number([]byte{0, 0, 0, 12, 0, channelData}, 0), 2), "hi"...)...))
	f.Add(text(number(number([]byte{0, 0, 0, 15, 0, channelRefused}, 0), 1), "no"))
	f.Add(append(opened, number([]byte{0, 0, 0, 6, 0, channelClose}, 0)...))
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		c := newConn(ours)
		defer c.Close()
		go func() { // what we say is taken, and answered by what the master says
			buf := make([]byte, 1<<16)
			if _, err := theirs.Read(buf); err == nil {
				_ = theirs.SetWriteDeadline(time.Now().Add(time.Second))
				go func() {
					for {
						if _, err := theirs.Read(buf); err != nil {
							return
						}
					}
				}()
				_, _ = theirs.Write(said)
			}
			theirs.Close()
		}()
		s, err := c.Open(context.Background(), "h", 1)
		if err != nil {
			return
		}
		defer s.Close()
		for {
			if _, err := s.Next(); err != nil {
				return
			}
		}
	})
}
