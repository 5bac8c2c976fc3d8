package socks

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Reply is the REP field of a SOCKS 5 reply (RFC 1928, section 6).
type Reply byte

// The replies that this package and its callers send.
const (
	replySucceeded               Reply = 0
	ReplyGeneralFailure          Reply = 1
	ReplyNotAllowed              Reply = 2
	ReplyHostUnreachable         Reply = 4
	ReplyConnectionRefused       Reply = 5
	replyCommandNotSupported     Reply = 7
	replyAddressTypeNotSupported Reply = 8
)

// request is a client's CONNECT request.
type request struct {
	version byte
	host    string
	port    int
}

const (
	version4, version5                      = 4, 5
	commandConnect                          = 1
	methodNoAuth, methodNoneAcceptable      = 0, 0xff
	addressIPv4, addressDomain, addressIPv6 = 1, 3, 4
)

// parseMessage parses one message at the start of input and returns its length n and the reply that is due at once. n is 0 while
// the message is incomplete. r is nil for the greeting of SOCKS 5. With an error, reply is what the client gets before the end.
func parseMessage(input []byte, hasGreeting bool) (r *request, n int, reply []byte, err error) {
	switch {
	case len(input) == 0:
		return nil, 0, nil, nil
	case input[0] == version4 && !hasGreeting:
		return parseVersion4(input)
	case input[0] != version5:
		return nil, 0, nil, errInvalidRequest
	case hasGreeting:
		return parseVersion5(input)
	}
	// The greeting: version, number of authentication methods, methods (RFC 1928, section 3).
	if len(input) < 2 || len(input) < 2+int(input[1]) {
		return nil, 0, nil, nil
	}
	n = 2 + int(input[1])
	if !bytes.Contains(input[2:n], []byte{methodNoAuth}) {
		return nil, 0, []byte{version5, methodNoneAcceptable}, errInvalidRequest
	}
	return nil, n, []byte{version5, methodNoAuth}, nil
}

// parseVersion5 parses a SOCKS 5 request: version, command, 0, address type, address, port (RFC 1928, section 4).
func parseVersion5(input []byte) (r *request, n int, reply []byte, err error) {
	r = &request{version: version5}
	if len(input) < 5 {
		return nil, 0, nil, nil
	}
	addressSize := 0
	switch input[3] {
	case addressIPv4:
		addressSize = 4
	case addressIPv6:
		addressSize = 16
	case addressDomain:
		addressSize = 1 + int(input[4])
	default:
		return nil, 0, r.encodeReply(replyAddressTypeNotSupported), errInvalidRequest
	}
	n = 4 + addressSize + 2
	if len(input) < n {
		return nil, 0, nil, nil
	}
	if input[1] != commandConnect {
		return nil, 0, r.encodeReply(replyCommandNotSupported), errInvalidRequest
	}
	address := input[4 : 4+addressSize]
	if input[3] == addressDomain {
		r.host = string(address[1:])
	} else {
		addr, _ := netip.AddrFromSlice(address)
		r.host = addr.String()
	}
	r.port = int(binary.BigEndian.Uint16(input[4+addressSize:]))
	return r, n, nil, nil
}

// parseVersion4 parses a SOCKS 4 request: version, command, port, address, user name, 0; in 4a, with an address of 0.0.0.x, then
// host name, 0.
func parseVersion4(input []byte) (r *request, n int, reply []byte, err error) {
	r = &request{version: version4}
	if len(input) < 9 {
		return nil, 0, nil, nil
	}
	end := bytes.IndexByte(input[8:], 0)
	if end < 0 {
		return nil, 0, nil, nil
	}
	n = 8 + end + 1
	addr := netip.AddrFrom4([4]byte(input[4:8]))
	r.host, r.port = addr.String(), int(binary.BigEndian.Uint16(input[2:]))
	if input[4]|input[5]|input[6] == 0 && input[7] != 0 {
		end := bytes.IndexByte(input[n:], 0)
		if end < 0 {
			return nil, 0, nil, nil
		}
		r.host = string(input[n : n+end])
		n += end + 1
	}
	if input[1] != commandConnect {
		return nil, 0, r.encodeReply(replyCommandNotSupported), errInvalidRequest
	}
	return r, n, nil, nil
}

// encodeReply returns the message for a reply. Its bound address is zero: it is unknown here, and clients ignore it.
func (r *request) encodeReply(reply Reply) []byte {
	if r.version == version4 {
		const accepted, rejected = 90, 91
		if reply == replySucceeded {
			return []byte{0, accepted, 0, 0, 0, 0, 0, 0}
		}
		return []byte{0, rejected, 0, 0, 0, 0, 0, 0}
	}
	return []byte{version5, byte(reply), 0, addressIPv4, 0, 0, 0, 0, 0, 0}
}
