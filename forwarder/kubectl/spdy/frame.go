package spdy

import "encoding/binary"

// Frames begin with eight bytes: of a control frame the version, the type, flags and the length of what follows; of a data
// frame the stream, flags and the length. https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/, section 2.
const (
	headSize = 8
	control  = 0x8000_0000
	version  = 3

	synStream = 1
	synReply  = 2
	rstStream = 3
	ping      = 6
	goAway    = 7

	fin = 0x01 // the sender's last frame of the stream

	cancel = 5 // the status of a reset: the stream is not wanted any more

	maxFrame = 1<<24 - 1
)

// head is the beginning of a frame.
type head struct {
	kind   uint16 // of a control frame; 0 for data
	stream uint32 // of a data frame
	flags  uint8
	length int
}

func parseHead(b []byte) head {
	first, second := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	h := head{flags: uint8(second >> 24), length: int(second & maxFrame)}
	if first&control != 0 {
		h.kind = uint16(first)
	} else {
		h.stream = first
	}
	return h
}

func appendControl(b []byte, kind uint16, flags uint8, length int) []byte {
	b = binary.BigEndian.AppendUint32(b, control|version<<16|uint32(kind))
	return binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(length))
}

// putDataHead writes the beginning of a data frame.
func putDataHead(b []byte, stream uint32, flags uint8, length int) {
	binary.BigEndian.PutUint32(b, stream)
	binary.BigEndian.PutUint32(b[4:], uint32(flags)<<24|uint32(length))
}

func appendReset(b []byte, stream uint32) []byte {
	b = appendControl(b, rstStream, 0, 8)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, cancel)
}

func appendPing(b []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(appendControl(b, ping, 0, 4), id)
}

func appendGoAway(b []byte) []byte {
	return append(appendControl(b, goAway, 0, 8), 0, 0, 0, 0, 0, 0, 0, 0)
}

// Header is a name, in lower case, and a value.
type Header struct{ Name, Value string }

// zlibHead begins the stream of compressed headers that all frames of a connection share: deflate with a window of 32 KiB, and
// the checksum of SPDY's dictionary, without which a peer does not read on.
var zlibHead = []byte{0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2}

// flush ends the headers of a frame: an empty stored block, at which a peer gives out what it has.
var flush = []byte{0, 0, 0, 0xff, 0xff}

// appendOpen makes a stream. The headers are "compressed" into a stored block (RFC 1951, section 3.2.4): a compressor would
// cost each connection most of a megabyte for some hundred bytes in its life.
func appendOpen(b []byte, stream uint32, flags uint8, headers []Header, first bool) []byte {
	size := 4
	for _, h := range headers {
		size += 8 + len(h.Name) + len(h.Value)
	}
	length := 10 + 5 + size + len(flush)
	if first {
		length += len(zlibHead)
	}
	b = appendControl(b, synStream, flags, length)
	b = binary.BigEndian.AppendUint32(b, stream)
	b = append(b, 0, 0, 0, 0, 0, 0) // no associated stream, the highest priority, no slot
	if first {
		b = append(b, zlibHead...)
	}
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(size))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(size))
	b = binary.BigEndian.AppendUint32(b, uint32(len(headers)))
	for _, h := range headers {
		b = appendText(appendText(b, h.Name), h.Value)
	}
	return append(b, flush...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
