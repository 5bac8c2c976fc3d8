// Package session speaks to a Kubernetes API server as the user's kubeconfig says: with any login, certificate and proxy that
// kubectl accepts, because the same library reads them. All forwards of a context share one session, and with it one
// login, one connection for questions and watches, and what is known of the server.
package session

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/tasks"
)

// The limits of one exchange with an API server, that a frozen one is told from a slow one.
const (
	dialTimeout          = 5 * time.Second
	responseTimeout      = 8 * time.Second // from a connection until the first word of an answer
	pingInterval         = 5 * time.Second // of silence on the connection of questions and watches
	pingTimeout          = 4 * time.Second
	webSocketMessageSize = 32 << 10
)

// Session is a login at one API server. It is safe for concurrent use.
type Session struct {
	Server        string // the URL
	auth          *authenticator
	base          *url.URL
	wrapTransport func(http.RoundTripper) (http.RoundTripper, error)

	requestTransport *http.Transport // questions and watches: HTTP/2 where the server speaks it
	requestTripper   http.RoundTripper
	upgradeTransport *http.Transport // HTTP/1.1, for SPDY
	spdyTripper      http.RoundTripper
	webSocketDialer  websocket.Dialer
	webSocketTripper http.RoundTripper

	reachability      reachability
	webSocketFallback struct {
		sync.Mutex
		server bool // it does not speak WebSocket
	}
	watches    watchSet
	nodeHealth nodeHealth
	tasks      *tasks.Group
}

// newSession makes a session, whose work is done in a group that it closes; nothing is asked of the server yet.
func newSession(config *rest.Config, auth *authenticator, group *tasks.Group) (*Session, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	config.ExecProvider = nil // login is it
	transportConfig, err := config.TransportConfig()
	if err != nil {
		return nil, err
	}
	if auth.plugin != nil {
		transportConfig.TLS.GetCertHolder = &transport.GetCertHolder{GetCert: auth.clientCertificate}
	}
	tlsConfig, err := transport.TLSConfigFor(transportConfig)
	if err != nil {
		return nil, err
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tlsConfig.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	auth.readExpiry(config, tlsConfig)
	s := &Session{Server: strings.TrimSuffix(base.String(), "/"), auth: auth, base: base, tasks: group}
	s.watches.open = make(map[watchKey]*Watch)
	s.wrapTransport = func(rt http.RoundTripper) (http.RoundTripper, error) {
		return transport.HTTPWrappersForConfig(transportConfig, rt)
	}
	s.createTransports(tlsConfig, config)
	for _, t := range []struct {
		to   *http.RoundTripper
		from http.RoundTripper
	}{{&s.requestTripper, s.requestTransport}, {&s.spdyTripper, s.upgradeTransport}, {&s.webSocketTripper, webSocketTransport{&s.webSocketDialer}}} {
		if *t.to, err = s.wrapTransport(t.from); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Session) createTransports(tlsConfig *tls.Config, config *rest.Config) {
	dial := (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	s.requestTransport = &http.Transport{
		Proxy: proxy, DialContext: dial, TLSClientConfig: tlsConfig.Clone(), TLSHandshakeTimeout: responseTimeout,
		ForceAttemptHTTP2: len(tlsConfig.NextProtos) == 0, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingInterval, PingTimeout: pingTimeout},
	}
	http1TLSConfig := tlsConfig.Clone()
	http1TLSConfig.NextProtos = []string{"http/1.1"}
	s.upgradeTransport = &http.Transport{
		Proxy: proxy, DialContext: dial, TLSClientConfig: http1TLSConfig, TLSHandshakeTimeout: responseTimeout,
		ResponseHeaderTimeout: responseTimeout, MaxIdleConnsPerHost: -1,
	}
	s.upgradeTransport.Protocols = new(http.Protocols)
	s.upgradeTransport.Protocols.SetHTTP1(true)
	s.webSocketDialer = websocket.Dialer{
		Proxy: proxy, NetDialContext: dial, TLSClientConfig: http1TLSConfig, HandshakeTimeout: responseTimeout,
		ReadBufferSize: 4 << 10, WriteBufferSize: webSocketMessageSize + 1<<10, WriteBufferPool: &sync.Pool{},
	}
}

// goTask runs a part of the session. One that breaks has found nothing out.
func (s *Session) goTask(f func(ctx context.Context)) {
	s.tasks.Go(func(ctx context.Context) {
		forwarder.Contain(func() { f(ctx) }, func(*forwarder.Failure, []byte) {})
	})
}

// close ends everything of the session.
func (s *Session) close() {
	s.tasks.Close()
	s.requestTransport.CloseIdleConnections()
	s.upgradeTransport.CloseIdleConnections()
}

// Get asks for an object, or for a list, and reads it into a value. An error of the server's is a *StatusError.
func (s *Session) Get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	resp, err := s.sendGet(ctx, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return s.recordResult(fmt.Errorf("read the answer of %s: %w", s.Server, err))
	}
	return nil
}

// sendGet sends a GET and returns an answer that is not a refusal.
func (s *Session) sendGet(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	return s.sendAuthorized(ctx, func(cred *credential) (*http.Response, error) {
		u := s.urlFor(path)
		u.RawQuery = query.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json")
		cred.setHeader(req)
		return s.requestTripper.RoundTrip(req)
	})
}

func (s *Session) urlFor(path string) *url.URL {
	u := *s.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	return &u
}

// sendAuthorized makes a request with the user's credential, and again with a new one where the server has had enough of it.
func (s *Session) sendAuthorized(ctx context.Context, send func(*credential) (*http.Response, error)) (*http.Response, error) {
	for isRetry := false; ; isRetry = true {
		cred, err := s.auth.currentCredential(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := send(cred)
		if err != nil {
			return nil, s.recordResult(err)
		}
		_ = s.recordResult(nil)
		if resp.StatusCode < 300 {
			return resp, nil
		}
		refused := readStatusError(resp)
		if refused.Code == http.StatusUnauthorized && s.auth.discardRejected(cred, isRetry) {
			s.closeIdleConnections()
			continue
		}
		return nil, refused
	}
}

// closeIdleConnections closes connections that were made with an old certificate.
func (s *Session) closeIdleConnections() { s.requestTransport.CloseIdleConnections() }

// Upgrade opens a connection for port forwards to a pod, which speaks SPDY. WebSocket is tried first and the upgrade to
// SPDY then, as kubectl does: older servers, some proxies, and rights that allow "create" but not "get" of
// pods/portforward.
func (s *Session) Upgrade(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	s.webSocketFallback.Lock()
	skipWebSocket := s.webSocketFallback.server
	s.webSocketFallback.Unlock()
	var webSocketErr error
	if !skipWebSocket {
		conn, err := s.upgradeWebSocket(ctx, path)
		if err == nil || !canFallBackToSPDY(err) {
			return conn, err
		}
		webSocketErr = err
	}
	conn, err := s.upgradeSPDY(ctx, path)
	if err == nil && webSocketErr != nil {
		s.webSocketFallback.Lock()
		s.webSocketFallback.server = true
		s.webSocketFallback.Unlock()
	}
	if err != nil && webSocketErr != nil && (hasStatusCode(webSocketErr, http.StatusForbidden) || hasStatusCode(err, http.StatusBadRequest)) {
		return nil, webSocketErr
	}
	return conn, err
}

// canFallBackToSPDY reports whether SPDY may do what WebSocket did not.
func canFallBackToSPDY(err error) bool {
	if strings.Contains(err.Error(), "proxy: unknown scheme: https") {
		return true
	}
	status, refused := asStatus(err)
	if !refused {
		return errors.Is(err, errNoWebSocket)
	}
	switch status.Code {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusUpgradeRequired,
		http.StatusNotImplemented, http.StatusOK:
		return true
	}
	return false
}

func asStatus(err error) (*StatusError, bool) { return errors.AsType[*StatusError](err) }

// Probe asks whether the server answers at all; a refusal is an answer.
func (s *Session) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	resp, err := s.sendGet(ctx, "/readyz", nil)
	if err == nil {
		resp.Body.Close()
		return nil
	}
	if status, ok := asStatus(err); ok && status.Code < 500 {
		return nil
	}
	return err
}

// A carrier of SPDY frames.
var _ io.ReadWriteCloser = (*webSocket)(nil)

// ClassifyError words why something could not be had, with its class and the next step.
func (s *Session) ClassifyError(err error, words ResourceRef) *forwarder.Failure {
	return classifyError(err, s.Server, words)
}
