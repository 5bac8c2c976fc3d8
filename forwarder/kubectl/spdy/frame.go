package spdy

import "encoding/binary"

// A frame begins with eight bytes. Control frame: version, type, flags, length of the rest. Data frame: stream id, flags, length.
// https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/, section 2.
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

	statusCancel = 5 // status of RST_STREAM: the stream is no longer needed

	maxFrameLength = 1<<24 - 1
)

// frameHeader is the parsed first eight bytes of a frame.
type frameHeader struct {
	kind   uint16 // type of a control frame; 0: a data frame
	stream uint32 // stream id of a data frame
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

// putDataHeader writes the header of a data frame into b.
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

// Header is one header of a stream. The name is in lower case.
type Header struct{ Name, Value string }

// zlibHeader begins the zlib stream of headers that all frames of a connection share: deflate with a window of 32 KiB, and the
// checksum of SPDY's dictionary, which a peer requires.
var zlibHeader = []byte{0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2}

// emptyBlock ends the headers of a frame: an empty stored block, at which the peer's decompressor flushes its output.
var emptyBlock = []byte{0, 0, 0, 0xff, 0xff}

// appendSynStream appends a SYN_STREAM frame. isFirst is true for the connection's first one. The headers are in a stored block
// (RFC 1951, section 3.2.4), not compressed: a compressor would cost each connection most of a megabyte, to save some hundred
// bytes.
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
	b = append(b, 0, 0, 0, 0, 0, 0) // no associated stream, highest priority, no credential slot
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
