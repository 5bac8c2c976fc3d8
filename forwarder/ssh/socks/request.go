package socks

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
)

// errEnd is the end of what comes.
var errEnd = io.EOF

// request is where a client wants to go.
type request struct {
	version byte
	host    string
	port    int
}

const (
	socks4, socks5      = 4, 5
	connect             = 1
	noLogin, noneOfThem = 0, 0xff
	ipv4, name, ipv6    = 1, 3, 4
)

// parse takes one message of the client's from what it has said, and what is to be answered at once. n is 0 while the message
// is not whole. The request is nil for the greeting of SOCKS 5.
func parse(said []byte, greeted bool) (r *request, n int, answer []byte, err error) {
	switch {
	case len(said) == 0:
		return nil, 0, nil, nil
	case said[0] == socks4 && !greeted:
		return parse4(said)
	case said[0] != socks5:
		return nil, 0, nil, errSpeech
	case greeted:
		return parse5(said)
	}
	// The greeting: how many methods of logging in the client has, and which.
	if len(said) < 2 || len(said) < 2+int(said[1]) {
		return nil, 0, nil, nil
	}
	n = 2 + int(said[1])
	if !bytes.Contains(said[2:n], []byte{noLogin}) {
		return nil, 0, []byte{socks5, noneOfThem}, errSpeech
	}
	return nil, n, []byte{socks5, noLogin}, nil
}

// parse5 takes the request of SOCKS 5: version, command, a zero, the kind of address, the address, the port.
func parse5(said []byte) (r *request, n int, answer []byte, err error) {
	r = &request{version: socks5}
	if len(said) < 5 {
		return nil, 0, nil, nil
	}
	size := 0
	switch said[3] {
	case ipv4:
		size = 4
	case ipv6:
		size = 16
	case name:
		size = 1 + int(said[4])
	default:
		return nil, 0, r.answer(badAddress), errSpeech
	}
	n = 4 + size + 2
	if len(said) < n {
		return nil, 0, nil, nil
	}
	if said[1] != connect {
		return nil, 0, r.answer(unsupported), errSpeech
	}
	where := said[4 : 4+size]
	if said[3] == name {
		r.host = string(where[1:])
	} else {
		addr, _ := netip.AddrFromSlice(where)
		r.host = addr.String()
	}
	r.port = int(binary.BigEndian.Uint16(said[4+size:]))
	return r, n, nil, nil
}

// parse4 takes the request of SOCKS 4: version, command, port, address, a user's name and a zero; and in 4a, where the
// address is none, a host's name and a zero.
func parse4(said []byte) (r *request, n int, answer []byte, err error) {
	r = &request{version: socks4}
	if len(said) < 9 {
		return nil, 0, nil, nil
	}
	end := bytes.IndexByte(said[8:], 0)
	if end < 0 {
		return nil, 0, nil, nil
	}
	n = 8 + end + 1
	addr := netip.AddrFrom4([4]byte(said[4:8]))
	r.host, r.port = addr.String(), int(binary.BigEndian.Uint16(said[2:]))
	if said[4]|said[5]|said[6] == 0 && said[7] != 0 {
		end := bytes.IndexByte(said[n:], 0)
		if end < 0 {
			return nil, 0, nil, nil
		}
		r.host = string(said[n : n+end])
		n += end + 1
	}
	if said[1] != connect {
		return nil, 0, r.answer(unsupported), errSpeech
	}
	return r, n, nil, nil
}

// answer is what the client is told. The address that the far side connects from is not known, and nobody asks for it.
func (r *request) answer(reply Reply) []byte {
	if r.version == socks4 {
		const accepted, rejected = 90, 91
		if reply == granted {
			return []byte{0, accepted, 0, 0, 0, 0, 0, 0}
		}
		return []byte{0, rejected, 0, 0, 0, 0, 0, 0}
	}
	return []byte{socks5, byte(reply), 0, ipv4, 0, 0, 0, 0, 0, 0}
}
