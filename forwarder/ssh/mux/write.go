package mux

import (
	"io"
	"net"
	"sync"
	"time"
)

// maxMessagesPerWrite is how many data messages one write to the master holds.
const maxMessagesPerWrite = 8

// dataMessages encodes data messages without copying their payload: headers and slices of the payload alternate in parts.
type dataMessages struct {
	headers [maxMessagesPerWrite * dataHeaderSize]byte
	parts   [2 * maxMessagesPerWrite][]byte
}

var dataMessagesPool = sync.Pool{New: func() any { return new(dataMessages) }}

func (s *Stream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		size, err := s.reserveSend(len(p) - n)
		if err != nil {
			return n, err
		}
		messages := dataMessagesPool.Get().(*dataMessages)
		err = s.conn.send(s, messageData, messages.encode(s, p[n:n+size]))
		*messages = dataMessages{}
		dataMessagesPool.Put(messages)
		if err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// reserveSend waits until both windows have room and takes up to want bytes of it.
func (s *Stream) reserveSend(want int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for min(s.sendWindow, s.congestion.available()) <= 0 && !s.isWriteClosed && !s.isEnded() {
		s.cond.Wait()
	}
	switch {
	case s.isClosed:
		return 0, net.ErrClosed
	case s.isWriteClosed, s.isEnded():
		return 0, io.ErrClosedPipe
	}
	n := min(want, s.sendWindow, s.congestion.available(), maxMessagesPerWrite*s.maxPacket)
	s.sendWindow -= n
	s.congestion.addSent(n, time.Now())
	return n, nil
}

// encode returns the messages that carry the payload, which they refer to.
func (m *dataMessages) encode(s *Stream, payload []byte) net.Buffers {
	headers, parts := m.headers[:0], m.parts[:0]
	for len(payload) > 0 {
		n, headerStart := min(len(payload), s.maxPacket), len(headers)
		headers = append(appendUint32(headers, uint32(2+8+n)), 0, messageData) //nolint:gosec // at most maxPacketSize
		headers = appendUint32(appendUint32(headers, s.remoteID), uint32(n))   //nolint:gosec // at most maxPacketSize; remoteID is constant once the channel is open
		parts = append(parts, headers[headerStart:], payload[:n])
		payload = payload[n:]
	}
	return parts
}

// CloseWrite sends an end of file: nothing more is written.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	isEOFDue := !s.isWriteClosed && !s.isEnded()
	s.isWriteClosed = true
	s.cond.Broadcast()
	s.mu.Unlock()
	if !isEOFDue {
		return nil
	}
	return s.sendMessage(messageEOF, nil)
}
