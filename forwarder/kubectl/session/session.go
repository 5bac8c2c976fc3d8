// Package session is a client of Kubernetes API servers that is configured by the user's kubeconfig, with every login, certificate
// and proxy that kubectl supports. All forwards of a context share one session: one login, one connection for requests and watches,
// and the state of the server.
package session

import (
	"bytes"
	"cmp"
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
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/socketcall"
	"github.com/localport-sh/localport/forwarder/tasks"
)

// Timeouts of a request to an API server, by which a server that hangs is told from a slow one.
const (
	dialTimeout          = 5 * time.Second
	responseTimeout      = 8 * time.Second // from the connection until the response's header
	pingInterval         = 5 * time.Second // without a frame on the connection of requests and watches
	pingTimeout          = 4 * time.Second
	webSocketMessageSize = 32 << 10
)

const userAgent = "localport"

// Session is a client of one API server with one login. It is safe for concurrent use.
type Session struct {
	Server string // the URL
	auth   *authenticator
	base   *url.URL
	// The files from which the session was made, to tell which of them has gone since.
	namedFiles  []namedFile
	kubeconfigs []string

	// Each tripper is the transport before it, with the headers that the kubeconfig requires.
	requestTransport *http.Transport // requests and watches: HTTP/2 if the server supports it
	requestTripper   http.RoundTripper
	upgradeTransport *http.Transport // HTTP/1.1, for SPDY
	spdyTripper      http.RoundTripper
	webSocketDialer  websocket.Dialer
	webSocketTripper http.RoundTripper

	reachability   reachability
	refusal        atomic.Pointer[forwarder.Failure] // the last 401, 403 or wrong certificate; nil: a request has succeeded since
	lacksWebSocket atomic.Bool                       // WebSocket failed, and SPDY did not
	watches        watchSet
	nodeHealth     nodeHealth
	tasks          *tasks.Group
}

// newSession makes a session. It sends no request. The session runs its goroutines in group, and closes it.
func newSession(config *kubeconfig.Config, auth *authenticator, group *tasks.Group) (*Session, error) {
	var certificate func() (*tls.Certificate, error)
	if auth.plugin != nil {
		certificate = auth.clientCertificate
	}
	tlsConfig, err := config.TLS(certificate)
	if err != nil {
		return nil, err
	}
	tlsConfig.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	auth.readExpiry(config, tlsConfig)
	s := &Session{Server: strings.TrimSuffix(config.Server.String(), "/"), auth: auth, base: config.Server, tasks: group}
	s.watches.open = make(map[watchKey]*Watch)
	s.createTransports(tlsConfig, config)
	for from, to := range map[http.RoundTripper]*http.RoundTripper{
		s.requestTransport: &s.requestTripper, s.upgradeTransport: &s.spdyTripper, webSocketTransport{&s.webSocketDialer}: &s.webSocketTripper,
	} {
		if *to, err = config.Authenticate(from, userAgent); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Session) createTransports(tlsConfig *tls.Config, config *kubeconfig.Config) {
	dial := (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	upgradeDial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return socketcall.NewConn(conn), nil
	}
	proxy := config.Proxy // set: see Source.loadConfig
	s.requestTransport = &http.Transport{
		Proxy: proxy, DialContext: dial, TLSClientConfig: tlsConfig.Clone(), TLSHandshakeTimeout: responseTimeout,
		ForceAttemptHTTP2: true, DisableCompression: config.DisableCompression, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingInterval, PingTimeout: pingTimeout},
	}
	http1TLSConfig := tlsConfig.Clone()
	http1TLSConfig.NextProtos = []string{"http/1.1"}
	s.upgradeTransport = &http.Transport{
		Proxy: proxy, DialContext: upgradeDial, TLSClientConfig: http1TLSConfig, TLSHandshakeTimeout: responseTimeout,
		ResponseHeaderTimeout: responseTimeout, MaxIdleConnsPerHost: -1,
	}
	s.upgradeTransport.Protocols = new(http.Protocols)
	s.upgradeTransport.Protocols.SetHTTP1(true)
	s.webSocketDialer = websocket.Dialer{
		Proxy: proxy, NetDialContext: upgradeDial, TLSClientConfig: http1TLSConfig, HandshakeTimeout: responseTimeout,
		ReadBufferSize: 4 << 10, WriteBufferSize: webSocketMessageSize + 1<<10, WriteBufferPool: &sync.Pool{},
	}
}

// goTask runs f in a goroutine of the session. A panic in f ends only f.
func (s *Session) goTask(f func(ctx context.Context)) {
	s.tasks.Go(func(ctx context.Context) {
		forwarder.CatchPanic(func() { f(ctx) }, func(*forwarder.Failure, []byte) {})
	})
}

// close ends the session's goroutines and connections.
func (s *Session) close() {
	s.tasks.Close()
	s.requestTransport.CloseIdleConnections()
	s.upgradeTransport.CloseIdleConnections()
}

// Get reads an object or a list into a value. An error response of the server is a *StatusError.
func (s *Session) Get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	resp, err := s.sendGet(ctx, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return s.recordResult(fmt.Errorf("read the response of %s: %w", s.Server, err))
	}
	return nil
}

// Create sends an object and reads what the server makes of it. An error response of the server is a *StatusError.
func (s *Session) Create(ctx context.Context, path string, object, into any) error {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	resp, err := s.sendAuthorized(ctx, func(cred *credential) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.urlFor(path).String(), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/json")
		cred.setHeader(req)
		return s.requestTripper.RoundTrip(req)
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// Version returns the server's version, and the time that its response has (RFC 9110, section 6.6.1); zero if it has none.
func (s *Session) Version(ctx context.Context) (version string, date time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	resp, err := s.sendGet(ctx, "/version", nil)
	if err != nil {
		return "", time.Time{}, err
	}
	defer resp.Body.Close()
	var info struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		return "", time.Time{}, s.recordResult(fmt.Errorf("read the response of %s: %w", s.Server, err))
	}
	date, _ = http.ParseTime(resp.Header.Get("Date"))
	return info.GitVersion, date, nil
}

// sendGet sends a GET request. A response with an error status is returned as a *StatusError.
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

// sendAuthorized sends a request with the current credential, and once more with a new one if the server rejects it.
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
			s.refusal.Store(nil)
			return resp, nil
		}
		refused := readStatusError(resp)
		if refused.Code == http.StatusUnauthorized && s.auth.discardRejected(cred, isRetry) {
			s.requestTransport.CloseIdleConnections() // they use the old client certificate
			continue
		}
		return nil, refused
	}
}

// Upgrade opens a connection that carries SPDY frames for port forwards to a pod. Like kubectl it tries WebSocket first, then an
// upgrade to SPDY, which older servers and some proxies need, and users who may "create" but not "get" pods/portforward. Where only SPDY
// has succeeded, it is used alone until it fails.
func (s *Session) Upgrade(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	var webSocketErr error
	if !s.lacksWebSocket.Load() {
		conn, err := s.upgradeWebSocket(ctx, path)
		if err == nil || !canFallBackToSPDY(err) {
			return conn, err
		}
		webSocketErr = err
	}
	conn, err := s.upgradeSPDY(ctx, path)
	s.lacksWebSocket.Store(err == nil && (webSocketErr != nil || s.lacksWebSocket.Load()))
	if err != nil && webSocketErr != nil && (hasStatusCode(webSocketErr, http.StatusForbidden) || hasStatusCode(err, http.StatusBadRequest)) {
		return nil, webSocketErr
	}
	return conn, err
}

// canFallBackToSPDY reports whether an upgrade to SPDY may succeed after this error of WebSocket: after every response but 401, after what
// is no response, and without one. Proxies that do not support WebSocket respond with 301, 403, 404, 500, 502 or 503, in no known form, or not
// at all.
func canFallBackToSPDY(err error) bool {
	if status, refused := asStatus(err); refused {
		return status.Code != http.StatusUnauthorized
	}
	return errors.Is(err, errNoWebSocket) || strings.Contains(err.Error(), "proxy: unknown scheme: https")
}

func asStatus(err error) (*StatusError, bool) { return errors.AsType[*StatusError](err) }

// Probe returns nil if the server responds, be it with a 4xx status.
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

// ClassifyError makes a failure of an error of this session: with a class, and a hint at the next step.
func (s *Session) ClassifyError(err error, ref ResourceRef) *forwarder.Failure {
	f := classifyError(err, s.Server, ref)
	if s.auth.plugin != nil && hasStatusCode(err, http.StatusUnauthorized) {
		f.Hint = fmt.Sprintf(`run "localport login"; test it with %q`, ref.Command("get namespaces"))
	}
	if f.MayPass {
		if _, isClassified := errors.AsType[*forwarder.Failure](err); !isClassified { // else others may have it too
			s.addMissingFile(f, ref)
		}
		s.refusal.Store(f)
	}
	return f
}

// addMissingFile says in a new failure of a login which file has gone that the login rests on.
func (s *Session) addMissingFile(f *forwarder.Failure, ref ResourceRef) {
	if missing := cmp.Or(describeUnreadable(s.namedFiles), describeUnreadableKubeconfig(s.kubeconfigs)); missing != "" {
		f.Reason += "; " + missing
		f.Hint = fmt.Sprintf(restoreFileHint, ref.Command("get namespaces"))
	}
}
