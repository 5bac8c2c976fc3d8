package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
)

// broker is one connection to a broker, with one request at a time.
type broker struct {
	conn          net.Conn
	correlationID int32
	maxVersions   map[int16]int16 // the newest version that it supports of each request, by API key
	hasResponded  bool            // it has sent a valid response
}

// maxResponseSize is the maximum size of a response in bytes; those of a check are far smaller. A server of another protocol sends text
// where the length should be.
const maxResponseSize = 16 << 20

// errNotKafka reports a response that no broker sends.
var errNotKafka = errors.New("the answer is not a Kafka response")

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("localport"))

// request sends a request in a version, and reads the response.
func (b *broker) request(request kmsg.Request, response kmsg.Response, version int16) error {
	b.correlationID++
	request.SetVersion(version)
	response.SetVersion(version)
	if _, err := b.conn.Write(formatter.AppendRequest(nil, request, b.correlationID)); err != nil {
		return err
	}
	body, err := b.readResponse()
	if err != nil {
		return err
	}
	const apiVersions = 18 // its responses never have the flexible header
	if response.IsFlexible() && response.Key() != apiVersions {
		if body, err = skipTags(body); err != nil {
			return err
		}
	}
	if err := response.ReadFrom(body); err != nil {
		return fmt.Errorf("%w: %w", errNotKafka, err)
	}
	b.hasResponded = true
	return nil
}

// readResponse returns the body of the next response, without length and correlation id.
func (b *broker) readResponse() ([]byte, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(b.conn, head); err != nil {
		return nil, err
	}
	length, correlationID := binary.BigEndian.Uint32(head), int32(binary.BigEndian.Uint32(head[4:]))
	if length < 4 || length > maxResponseSize || correlationID != b.correlationID {
		return nil, fmt.Errorf("%w: it starts with %q", errNotKafka, head)
	}
	body := new(bytes.Buffer)
	if _, err := io.CopyN(body, b.conn, int64(length)-4); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// skipTags skips the tagged fields of a flexible header.
func skipTags(body []byte) ([]byte, error) {
	readUvarint := func() uint64 {
		value, n := binary.Uvarint(body)
		if n <= 0 {
			body = nil
			return 0
		}
		body = body[n:]
		return value
	}
	for range readUvarint() {
		readUvarint() // the tag
		length := readUvarint()
		if length > uint64(len(body)) {
			return nil, errNotKafka
		}
		body = body[length:]
	}
	return body, nil
}

// explainError returns a Failure with the broker's own message if it sent one.
func (b *broker) explainError(ctx context.Context, err error, usesTLS bool) error {
	hint := ""
	if h, ok := errors.AsType[*hintError](err); ok {
		hint = h.hint
	}
	failure, isFailure := errors.AsType[*probe.Failure](err)
	brokerErr, isBrokerErr := errors.AsType[*kerr.Error](err)
	isClosed := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	_, isAlert := errors.AsType[tls.AlertError](err)
	switch {
	case isFailure:
		return failure
	case ctx.Err() != nil:
		return fmt.Errorf("wait for the response: %w", ctx.Err())
	case isBrokerErr:
		return &probe.Failure{Reason: brokerErr.Message + ": " + brokerErr.Description, Hint: hint}
	case errors.Is(err, errNotKafka):
		return &probe.Failure{Reason: err.Error(), Hint: "check remote_port; if the listener uses TLS, set health_check.tls = true"}
	case isAlert:
		return secure.ExplainError(err)
	case isClosed && b.hasResponded:
		return &probe.Failure{Reason: "the broker closed the connection without answering", Hint: hint}
	case isClosed && !usesTLS:
		return errors.New("the server closed the connection without answering; if it uses TLS, set health_check.tls = true")
	case isClosed:
		return errors.New("the server closed the connection without answering")
	}
	return err
}
