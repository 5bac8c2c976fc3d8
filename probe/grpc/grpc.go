// Package grpc checks a gRPC server with its standard health service, grpc.health.v1.Health. It makes the call itself
// over the standard library's HTTP/2: the gRPC library would add 1 ms to every start of the program, and 6 MB.
package grpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "grpc": healthy if the answer is SERVING. Without a service it checks the whole server.
var Type = probe.Type{
	CheckType: project.CheckType{Name: "grpc", Keys: append([]project.Key{
		{Name: "service"},
		{Name: "authority"},
		secure.HeadersKey,
	}, secure.Keys...)},
	New: func(s project.Settings) (probe.Check, error) {
		config, err := secure.ConfigFor(s, s.Text("authority"))
		if err != nil {
			return nil, err
		}
		if config != nil {
			config.NextProtos = []string{"h2"}
		}
		return func(ctx context.Context, dialer probe.Dialer) error { return check(ctx, dialer, config, s) }, nil
	},
}

func check(ctx context.Context, dialer probe.Dialer, config *tls.Config, s project.Settings) error {
	// The connection is opened here, because the transport would go on dialling after the check's context has ended.
	conn, err := secure.Dial(ctx, dialer, config)
	if err != nil {
		return secure.ExplainResponseError(ctx, err)
	}
	defer conn.Close()
	recorded := &prefixConn{Conn: conn}
	transport := &http.Transport{
		DialContext:    func(context.Context, string, string) (net.Conn, error) { return recorded, nil },
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocols:      new(http.Protocols),
	}
	defer transport.CloseIdleConnections()
	if config == nil {
		transport.Protocols.SetUnencryptedHTTP2(true)
		if err := callHealthCheck(ctx, transport, "http", s); err == nil || recorded.isHTTP2() {
			return err
		}
		return &probe.Failure{Reason: noHTTP2Reason, Hint: "check health_check.tls and remote_port"}
	}
	if tlsConn, ok := conn.(*tls.Conn); ok && tlsConn.ConnectionState().NegotiatedProtocol != "h2" {
		return &probe.Failure{Reason: noHTTP2Reason, Hint: "check remote_port"}
	}
	transport.Protocols.SetHTTP2(true)
	return callHealthCheck(ctx, transport, "https", s)
}

const noHTTP2Reason = "the server does not support HTTP/2, which gRPC requires"

func callHealthCheck(ctx context.Context, transport http.RoundTripper, scheme string, s project.Settings) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://localhost/grpc.health.v1.Health/Check",
		bytes.NewReader(encodeRequest(s.Text("service"))))
	if err != nil {
		return err
	}
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"localport"}}
	for name, value := range s.Table("headers") {
		request.Header.Set(name, value)
	}
	if authority := s.Text("authority"); authority != "" {
		request.Host = authority
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return secure.ExplainResponseError(ctx, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return secure.ExplainResponseError(ctx, err)
	}
	return checkResponse(response, body, s.Text("service"))
}

// encodeRequest encodes HealthCheckRequest{service = 1: string} with the five-byte prefix of an uncompressed message.
func encodeRequest(service string) []byte {
	var body []byte
	if service != "" {
		body = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service))), service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// The values of HealthCheckResponse.ServingStatus.
var servingStatus = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// statusCodes are the names of the values of grpc-status (https://grpc.io/docs/guides/status-codes/).
var statusCodes = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}

func checkResponse(response *http.Response, body []byte, service string) error {
	if response.StatusCode != http.StatusOK {
		return &probe.Failure{Reason: "the answer is not gRPC: " + response.Status}
	}
	if code := trailerOrHeader(response, "Grpc-Status"); code != "0" {
		return statusFailure(code, trailerOrHeader(response, "Grpc-Message"), service)
	}
	status, ok := decodeStatus(body)
	switch {
	case !ok:
		return &probe.Failure{Reason: fmt.Sprintf("unexpected answer of the health service: % x", body)}
	case status != "SERVING":
		return &probe.Failure{Reason: fmt.Sprintf("%s is %s", describeService(service), status)}
	}
	return nil
}

func describeService(service string) string {
	if service == "" {
		return "the server"
	}
	return fmt.Sprintf("service %q", service)
}

// trailerOrHeader returns a trailer. A response that consists of a header alone has it there.
func trailerOrHeader(response *http.Response, name string) string {
	if value := response.Trailer.Get(name); value != "" {
		return value
	}
	return response.Header.Get(name)
}

func statusFailure(code, text, service string) error {
	if decoded, err := url.PathUnescape(text); err == nil {
		text = decoded
	}
	number, err := strconv.Atoi(code)
	if err != nil || number < 0 {
		return &probe.Failure{Reason: "the answer is not gRPC: it has no grpc-status"}
	}
	name := "status " + code
	if number < len(statusCodes) {
		name = statusCodes[number]
	}
	failure := &probe.Failure{Reason: name + ": " + text}
	switch name {
	case "NOT_FOUND":
		failure.Reason = fmt.Sprintf("the server does not know %s", describeService(service))
		failure.Hint = "check health_check.service"
	case "UNIMPLEMENTED":
		failure.Reason = "the server does not have the health service: " + text
		failure.Hint = `set health_check.type = "tcp"`
	case "UNAUTHENTICATED", "PERMISSION_DENIED":
		failure.Hint = "set credentials in health_check.headers"
	}
	return failure
}

// decodeStatus decodes HealthCheckResponse{status = 1: enum}; a missing field is UNKNOWN.
func decodeStatus(body []byte) (string, bool) {
	if len(body) < 5 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 || body[0] != 0 {
		return "", false
	}
	body = body[5:]
	if len(body) == 0 {
		return servingStatus[0], true
	}
	value, n := binary.Uvarint(body[1:])
	if body[0] != 1<<3 || n != len(body)-1 || value >= uint64(len(servingStatus)) {
		return "", false
	}
	return servingStatus[value], true
}
