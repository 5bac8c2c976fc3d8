package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/localport-sh/localport/forwarder/api"
)

// The response statuses that a client distinguishes (RFC 9110).
const (
	statusSwitchingProtocols = 101
	statusOK                 = 200
	statusNotFound           = 404
	statusTooManyRequests    = 429 // RFC 6585
	statusUnavailable        = 503
)

// request is one HTTP request. It is written without net/http: initialising that package, with TLS below it, would take a prompt longer
// than all its other work.
type request struct {
	method, path, id string
	body             []byte
}

// exchange sends the request and returns the status and the body of the response. It uses HTTP/1.0 (RFC 1945), where a connection carries
// one request and a response is never chunked.
func (r request) exchange(conn io.ReadWriter) (status int, body io.Reader, err error) {
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: localport\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
		r.method, r.path, api.RequestHeader, r.id, len(r.body), r.body)
	if err != nil {
		return 0, nil, err
	}
	reader := bufio.NewReader(conn)
	for first := true; ; first = false {
		line, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, nil, err
		}
		if first {
			if _, err := fmt.Sscanf(line, "HTTP/1.%1d %3d", new(int), &status); err != nil {
				return 0, nil, fmt.Errorf("invalid HTTP status line %q", line)
			}
		}
		if strings.TrimRight(line, "\r\n") == "" {
			return status, reader, nil
		}
	}
}
