package mux

import (
	"encoding/binary"
	"math"
)

// messageIgnore is the message of RFC 4253, section 11.2, that every server ignores. A master passes it on as it is.
const messageIgnore = 2

// The channel messages of RFC 4254, section 9.
const (
	messageChannelOpen      = 90
	messageOpenConfirmation = 91
	messageOpenFailure      = 92
	messageWindowAdjust     = 93
	messageData             = 94
	messageExtendedData     = 95
	messageEOF              = 96
	messageClose            = 97
	messageRequest          = 98
	messageFailure          = 100
)

const (
	messageHeaderSize = 4 + 1 + 1 // length, padding length (0), message type
	dataHeaderSize    = messageHeaderSize + 4 + 4
	maxPacketSize     = 32 << 10  // bytes of data in one message: what ssh and sshd use
	maxMessageSize    = 256 << 10 // bytes: more than the master itself accepts
	readBufferSize    = 256 << 10 // bytes: as much as a socket buffer holds
)

// encodeMessage returns a message of a type, framed as in the proxy mode of PROTOCOL.mux.
func encodeMessage(kind byte, body []byte) []byte {
	message := make([]byte, 0, messageHeaderSize+len(body))
	message = append(appendUint32(message, uint32(2+len(body))), 0, kind) //nolint:gosec // a body is short
	return append(message, body...)
}

// appendUint32 appends a uint32 as both protocols encode it.
func appendUint32(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

// appendString appends a string as both protocols encode it: length, bytes.
func appendString(b []byte, s string) []byte {
	return append(appendUint32(b, uint32(min(len(s), math.MaxUint32))), s...) //nolint:gosec // bounded by min
}

// messageReader decodes the fields of a message in their order. A missing field reads as zero and sets isTruncated.
type messageReader struct {
	unread      []byte
	isTruncated bool
}

func (r *messageReader) readUint32() uint32 {
	if len(r.unread) < 4 {
		r.unread, r.isTruncated = nil, true
		return 0
	}
	n := binary.BigEndian.Uint32(r.unread)
	r.unread = r.unread[4:]
	return n
}

func (r *messageReader) readString() []byte {
	n := int(r.readUint32())
	if n > len(r.unread) {
		r.unread, r.isTruncated = nil, true
		return nil
	}
	s := r.unread[:n]
	r.unread = r.unread[n:]
	return s
}

func (r *messageReader) readBool() bool {
	if len(r.unread) == 0 {
		r.isTruncated = true
		return false
	}
	b := r.unread[0] != 0
	r.unread = r.unread[1:]
	return b
}
