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
	dialTimeout     = 5 * time.Second
	answerTimeout   = 8 * time.Second // from a connection until the first word of an answer
	pingAfter       = 5 * time.Second // of silence on the connection of questions and watches
	pingTimeout     = 4 * time.Second
	windowsOfFrames = 32 << 10
)

// Session is a login at one API server. It is safe for concurrent use.
type Session struct {
	Server string // the URL
	login  *login
	base   *url.URL
	wrap   func(http.RoundTripper) (http.RoundTripper, error)

	api      *http.Transport // questions and watches: HTTP/2 where the server speaks it
	asking   http.RoundTripper
	upgrades *http.Transport // HTTP/1.1, for SPDY
	spdy     http.RoundTripper
	dialer   websocket.Dialer
	socket   http.RoundTripper

	reach reach
	old   struct {
		sync.Mutex
		server bool // it does not speak WebSocket
	}
	watches watches
	nodes   nodes
	tasks   *tasks.Group
}

// open makes a session, whose work is done in a group that it closes; nothing is asked of the server yet.
func open(config *rest.Config, l *login, group *tasks.Group) (*Session, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	config.ExecProvider = nil // login is it
	tc, err := config.TransportConfig()
	if err != nil {
		return nil, err
	}
	if l.plugin != nil {
		tc.TLS.GetCertHolder = &transport.GetCertHolder{GetCert: l.certificate}
	}
	secure, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, err
	}
	if secure == nil {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	secure.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	l.knows(config, secure)
	s := &Session{Server: strings.TrimSuffix(base.String(), "/"), login: l, base: base, tasks: group}
	s.reach.init()
	s.watches.open = make(map[watchKey]*Watch)
	s.wrap = func(rt http.RoundTripper) (http.RoundTripper, error) { return transport.HTTPWrappersForConfig(tc, rt) }
	s.transports(secure, config)
	for _, t := range []struct {
		to   *http.RoundTripper
		from http.RoundTripper
	}{{&s.asking, s.api}, {&s.spdy, s.upgrades}, {&s.socket, upgrader{&s.dialer}}} {
		if *t.to, err = s.wrap(t.from); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Session) transports(secure *tls.Config, config *rest.Config) {
	dial := (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	s.api = &http.Transport{
		Proxy: proxy, DialContext: dial, TLSClientConfig: secure.Clone(), TLSHandshakeTimeout: answerTimeout,
		ForceAttemptHTTP2: len(secure.NextProtos) == 0, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	one := secure.Clone()
	one.NextProtos = []string{"http/1.1"}
	s.upgrades = &http.Transport{
		Proxy: proxy, DialContext: dial, TLSClientConfig: one, TLSHandshakeTimeout: answerTimeout,
		ResponseHeaderTimeout: answerTimeout, MaxIdleConnsPerHost: -1,
	}
	s.upgrades.Protocols = new(http.Protocols)
	s.upgrades.Protocols.SetHTTP1(true)
	s.dialer = websocket.Dialer{
		Proxy: proxy, NetDialContext: dial, TLSClientConfig: one, HandshakeTimeout: answerTimeout,
		ReadBufferSize: 4 << 10, WriteBufferSize: windowsOfFrames + 1<<10, WriteBufferPool: &sync.Pool{},
	}
}

// goes runs a part of the session. One that breaks has found nothing out.
func (s *Session) goes(f func(ctx context.Context)) {
	s.tasks.Go(func(ctx context.Context) {
		forwarder.Contain(func() { f(ctx) }, func(*forwarder.Failure, []byte) {})
	})
}

// close ends everything of the session.
func (s *Session) close() {
	s.tasks.Close()
	s.api.CloseIdleConnections()
	s.upgrades.CloseIdleConnections()
}

// Get asks for an object, or for a list, and reads it into a value. An error of the server's is a *StatusError.
func (s *Session) Get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := s.ask(ctx, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return s.heard(fmt.Errorf("read the answer of %s: %w", s.Server, err))
	}
	return nil
}

// ask sends a GET and returns an answer that is not a refusal.
func (s *Session) ask(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	return s.authorized(ctx, func(cred *credential) (*http.Response, error) {
		u := s.url(path)
		u.RawQuery = query.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json")
		cred.put(req)
		return s.asking.RoundTrip(req)
	})
}

func (s *Session) url(path string) *url.URL {
	u := *s.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	return &u
}

// authorized makes a request with the user's credential, and again with a new one where the server has had enough of it.
func (s *Session) authorized(ctx context.Context, do func(*credential) (*http.Response, error)) (*http.Response, error) {
	for again := false; ; again = true {
		cred, err := s.login.credential(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := do(cred)
		if err != nil {
			return nil, s.heard(err)
		}
		_ = s.heard(nil)
		if resp.StatusCode < 300 {
			return resp, nil
		}
		refused := refusal(resp)
		if refused.Code == http.StatusUnauthorized && s.login.rejected(cred, again) {
			s.dropIdle()
			continue
		}
		return nil, refused
	}
}

// dropIdle closes connections that were made with an old certificate.
func (s *Session) dropIdle() { s.api.CloseIdleConnections() }

// Upgrade opens a connection for port forwards to a pod, which speaks SPDY. WebSocket is tried first and the upgrade to
// SPDY then, as kubectl does: older servers, some proxies, and rights that allow "create" but not "get" of
// pods/portforward.
func (s *Session) Upgrade(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	s.old.Lock()
	old := s.old.server
	s.old.Unlock()
	var first error
	if !old {
		carrier, err := s.upgradeWebSocket(ctx, path)
		if err == nil || !anotherWay(err) {
			return carrier, err
		}
		first = err
	}
	carrier, err := s.upgradeSPDY(ctx, path)
	if err == nil && first != nil {
		s.old.Lock()
		s.old.server = true
		s.old.Unlock()
	}
	if err != nil && first != nil && (hasCode(first, http.StatusForbidden) || hasCode(err, http.StatusBadRequest)) {
		return nil, first
	}
	return carrier, err
}

// anotherWay reports whether SPDY may do what WebSocket did not.
func anotherWay(err error) bool {
	if strings.Contains(err.Error(), "proxy: unknown scheme: https") {
		return true
	}
	status, refused := asStatus(err)
	if !refused {
		return errors.Is(err, errNoSocket)
	}
	switch status.Code {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusUpgradeRequired,
		http.StatusNotImplemented, http.StatusOK:
		return true
	}
	return false
}

func asStatus(err error) (*StatusError, bool) { return errors.AsType[*StatusError](err) }

// Alive asks whether the server answers at all; a refusal is an answer.
func (s *Session) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	resp, err := s.ask(ctx, "/readyz", nil)
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

// Failure words why something could not be had, with its class and the next step.
func (s *Session) Failure(err error, words Words) *forwarder.Failure {
	return explain(err, s.Server, words)
}
