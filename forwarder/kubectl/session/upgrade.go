package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// The protocol of port forwards, over SPDY and in WebSocket messages.
const (
	portForwardProtocol = "portforward.k8s.io"
	webSocketProtocol   = "SPDY/3.1+" + portForwardProtocol
)

var errNoWebSocket = errors.New("the server does not support port forwarding over WebSocket")

// webSocketTransport opens a WebSocket for a request. The body of the response is the connection, a *webSocket.
type webSocketTransport struct{ dialer *websocket.Dialer }

func (t webSocketTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	target := *req.URL
	target.Scheme = map[string]string{"https": "wss", "http": "ws"}[target.Scheme]
	dialer := *t.dialer
	dialer.Subprotocols = []string{webSocketProtocol}
	isConnected := false
	dialer.NetDialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := t.dialer.NetDialContext(ctx, network, addr)
		isConnected = err == nil
		return conn, err
	}
	conn, resp, err := dialer.DialContext(req.Context(), target.String(), req.Header)
	if errors.Is(err, websocket.ErrBadHandshake) {
		return resp, nil // the caller reads the error response
	}
	if err != nil && isConnected && req.Context().Err() == nil { // no response, not one in HTTP, or one that breaks the rules of WebSocket
		return nil, fmt.Errorf("%w: %w", errNoWebSocket, err)
	}
	if err != nil {
		return nil, err
	}
	if conn.Subprotocol() != webSocketProtocol {
		conn.Close()
		return nil, errNoWebSocket
	}
	return &http.Response{StatusCode: http.StatusOK, Body: &webSocket{conn: conn}}, nil
}

func (s *Session) upgradeWebSocket(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	resp, err := s.sendAuthorized(ctx, func(cred *credential) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.urlFor(path).String(), nil)
		if err != nil {
			return nil, err
		}
		cred.setHeader(req)
		resp, err := s.webSocketTripper.RoundTrip(req)
		if err == nil && resp.StatusCode < http.StatusMultipleChoices {
			if _, isWebSocket := resp.Body.(*webSocket); !isWebSocket { // 200 without an upgrade, 101 for another or with a wrong key
				resp.Body.Close()
				return nil, fmt.Errorf("%w: it answered with status %d", errNoWebSocket, resp.StatusCode)
			}
		}
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	return resp.Body.(*webSocket), nil
}

// webSocket is the byte stream in the messages of a WebSocket. One goroutine may read while another writes.
type webSocket struct {
	conn    *websocket.Conn
	message io.Reader
}

func (w *webSocket) Read(p []byte) (int, error) {
	for {
		if w.message == nil {
			kind, message, err := w.conn.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("the server sent a WebSocket message of type %d, not a binary one", kind)
			}
			w.message = message
		}
		n, err := w.message.Read(p)
		if errors.Is(err, io.EOF) {
			w.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (w *webSocket) Write(p []byte) (int, error) {
	if err := w.conn.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *webSocket) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

func (w *webSocket) Close() error { return w.conn.Close() }

func (s *Session) upgradeSPDY(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	resp, err := s.sendAuthorized(ctx, func(cred *credential) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.urlFor(path).String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "SPDY/3.1")
		req.Header.Set("X-Stream-Protocol-Version", portForwardProtocol)
		cred.setHeader(req)
		resp, err := s.spdyTripper.RoundTrip(req)
		if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
			resp.StatusCode = http.StatusOK
		}
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		resp.Body.Close()
		return nil, errors.New("the server did not upgrade the connection to SPDY")
	}
	return conn, nil
}
