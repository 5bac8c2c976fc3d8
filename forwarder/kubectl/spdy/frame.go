package spdy

import "encoding/binary"

// Frames begin with eight bytes: of a control frame the version, the type, flags and the length of what follows; of a data
// frame the stream, flags and the length. https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/, section 2.
const (
	frameHeaderSize = 8
	controlBit      = 0x8000_0000
	spdyVersion     = 3

	frameSynStream = 1
	frameSynReply  = 2
	frameRstStream = 3
	framePing      = 6
	frameGoAway    = 7

	flagFin = 0x01 // the sender's last frame of the stream

	statusCancel = 5 // the status of a reset: the stream is not wanted any more

	maxFrameLength = 1<<24 - 1
)

// frameHeader is the beginning of a frame.
type frameHeader struct {
	kind   uint16 // of a control frame; 0 for data
	stream uint32 // of a data frame
	flags  uint8
	length int
}

func parseFrameHeader(b []byte) frameHeader {
	first, second := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	h := frameHeader{flags: uint8(second >> 24), length: int(second & maxFrameLength)}
	if first&controlBit != 0 {
		h.kind = uint16(first)
	} else {
		h.stream = first
	}
	return h
}

func appendControlHeader(b []byte, kind uint16, flags uint8, length int) []byte {
	b = binary.BigEndian.AppendUint32(b, controlBit|spdyVersion<<16|uint32(kind))
	return binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(length))
}

// putDataHeader writes the beginning of a data frame.
func putDataHeader(b []byte, stream uint32, flags uint8, length int) {
	binary.BigEndian.PutUint32(b, stream)
	binary.BigEndian.PutUint32(b[4:], uint32(flags)<<24|uint32(length))
}

func appendRstStream(b []byte, stream uint32) []byte {
	b = appendControlHeader(b, frameRstStream, 0, 8)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, statusCancel)
}

func appendPing(b []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(appendControlHeader(b, framePing, 0, 4), id)
}

func appendGoAway(b []byte) []byte {
	return append(appendControlHeader(b, frameGoAway, 0, 8), 0, 0, 0, 0, 0, 0, 0, 0)
}

// Header is a name, in lower case, and a value.
type Header struct{ Name, Value string }

// zlibHeader begins the stream of compressed headers that all frames of a connection share: deflate with a window of 32 KiB, and
// the checksum of SPDY's dictionary, without which a peer does not read on.
var zlibHeader = []byte{0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2}

// emptyBlock ends the headers of a frame: an empty stored block, at which a peer gives out what it has.
var emptyBlock = []byte{0, 0, 0, 0xff, 0xff}

// appendSynStream makes a stream. The headers are "compressed" into a stored block (RFC 1951, section 3.2.4): a compressor would
// cost each connection most of a megabyte for some hundred bytes in its life.
func appendSynStream(b []byte, stream uint32, flags uint8, headers []Header, isFirst bool) []byte {
	size := 4
	for _, h := range headers {
		size += 8 + len(h.Name) + len(h.Value)
	}
	length := 10 + 5 + size + len(emptyBlock)
	if isFirst {
		length += len(zlibHeader)
	}
	b = appendControlHeader(b, frameSynStream, flags, length)
	b = binary.BigEndian.AppendUint32(b, stream)
	b = append(b, 0, 0, 0, 0, 0, 0) // no associated stream, the highest priority, no slot
	if isFirst {
		b = append(b, zlibHeader...)
	}
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(size))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(size))
	b = binary.BigEndian.AppendUint32(b, uint32(len(headers)))
	for _, h := range headers {
		b = appendString(appendString(b, h.Name), h.Value)
	}
	return append(b, emptyBlock...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
