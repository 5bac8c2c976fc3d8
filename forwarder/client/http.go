package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

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
	file             *os.File // sent with the request if it is not nil
}

// rightsWriter sends a copy of a file with what is written (SCM_RIGHTS in unix(7)). Only one call of Write may follow.
type rightsWriter struct {
	conn *net.UnixConn
	file *os.File
}

func (w rightsWriter) Write(data []byte) (int, error) {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	sent := 0
	controlErr := raw.Control(func(fd uintptr) { sent, _, err = w.conn.WriteMsgUnix(data, unix.UnixRights(int(fd)), nil) })
	if err = errors.Join(err, controlErr); err != nil || sent == len(data) {
		return sent, err
	}
	n, err := w.conn.Write(data[sent:])
	return sent + n, err
}

// exchange sends the request and returns the status and the body of the response. It uses HTTP/1.0 (RFC 1945), where a connection carries
// one request and a response is never chunked.
func (r request) exchange(conn io.ReadWriter) (status int, body io.Reader, err error) {
	var w io.Writer = conn
	if unixConn, ok := conn.(*net.UnixConn); ok && r.file != nil {
		w = rightsWriter{unixConn, r.file}
	}
	_, err = fmt.Fprintf(w, "%s %s HTTP/1.0\r\nHost: localport\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
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
