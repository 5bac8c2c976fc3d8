package mux

import (
	"context"
	"net"
	"testing"
	"time"
)

// Whatever a master sends is ignored or ends the connection.
func FuzzConn(f *testing.F) {
	confirmation := appendUint32(appendUint32(appendUint32(appendUint32([]byte{0, 0, 0, 18, 0, messageOpenConfirmation}, 0), 7), 1<<20), 1<<15)
	f.Add(confirmation)
	f.Add(append(confirmation, append(appendUint32(appendUint32([]byte{0, 0, 0, 12, 0, messageData}, 0), 2), "hi"...)...))
	f.Add(appendString(appendUint32(appendUint32([]byte{0, 0, 0, 15, 0, messageOpenFailure}, 0), 1), "no"))
	f.Add(append(confirmation, appendUint32([]byte{0, 0, 0, 6, 0, messageClose}, 0)...))
	f.Fuzz(func(t *testing.T, output []byte) {
		ours, theirs := net.Pipe()
		c := newConn(ours)
		defer c.Close()
		go func() { // plays the master: answers the first message with the fuzzed output
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
				_, _ = theirs.Write(output)
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
