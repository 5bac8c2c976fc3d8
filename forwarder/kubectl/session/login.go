package session

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/tasks"
)

// login is who we are to a server. It outlives sessions, so that a plugin that was run, or that failed, is not run again
// for each forward.
type login struct {
	tasks  *tasks.Group // of all who share it
	plugin *plugin      // nil: the kubeconfig itself holds the credential

	mu      sync.Mutex
	cred    *credential
	running chan struct{} // closed when the plugin that runs now has ended
	failure *forwarder.Failure
	failed  time.Time // when it did
	expires time.Time // of a credential in the kubeconfig; zero: unknown
}

// credential is what a plugin gave. The zero value is that of a kubeconfig, which the transport has already.
type credential struct {
	token   string
	cert    *tls.Certificate
	expires time.Time
	renew   time.Time // when to ask for the next; zero: never
}

// last sets when the next credential is to be asked for: before the end, but not at once, whatever the end is.
func (c *credential) last() {
	if !c.expires.IsZero() {
		c.renew = c.expires.Add(-early)
		if soonest := time.Now().Add(time.Second); c.renew.Before(soonest) {
			c.renew = soonest
		}
	}
}

func (c *credential) put(req *http.Request) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
}

// early is how long before its end a credential is renewed.
const early = 10 * time.Second

var none = &credential{}

// credential is the one to use now. Of several callers at once only one runs the plugin.
func (l *login) credential(ctx context.Context) (*credential, error) {
	for {
		l.mu.Lock()
		switch {
		case l.failure != nil:
			failure := *l.failure
			l.mu.Unlock()
			return nil, &failure
		case l.plugin == nil:
			l.mu.Unlock()
			return none, nil
		case l.cred != nil && (l.cred.renew.IsZero() || time.Now().Before(l.cred.renew)):
			cred := l.cred
			l.mu.Unlock()
			return cred, nil
		}
		if l.running == nil {
			l.running = make(chan struct{})
			ended := l.running
			l.tasks.Go(func(ctx context.Context) { l.run(ctx, ended) })
		}
		running := l.running
		l.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// run runs the plugin; it ends by itself.
func (l *login) run(ctx context.Context, ended chan struct{}) {
	var cred *credential
	var err error
	forwarder.Contain(func() { cred, err = l.plugin.run(ctx) }, func(failure *forwarder.Failure, _ []byte) { err = failure })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cred = cred
	if err != nil {
		l.fail(err)
	} else {
		cred.last()
	}
	l.running = nil
	close(ended)
}

func (l *login) fail(err error) {
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok {
		failure = &forwarder.Failure{Class: forwarder.ByAttention, Reason: err.Error()}
	}
	l.failure, l.failed = failure, time.Now()
}

// rejected notes that the server takes a credential no longer; true where another is to be had, which is tried once.
func (l *login) rejected(cred *credential, again bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plugin == nil {
		return false
	}
	if l.cred == cred {
		l.cred = nil
	}
	return !again
}

// forgive forgets a failure from before the user asked for another attempt.
func (l *login) forgive(asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil && asked.After(l.failed) {
		l.failure, l.cred = nil, nil
	}
}

// give takes a credential that the user has got by a login in the foreground.
func (l *login) give(cred *credential) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cred.last()
	l.cred, l.failure = cred, nil
}

// trouble is why there is no credential, nil if there is one or may be.
func (l *login) trouble() *forwarder.Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// certificate is what TLS asks for.
func (l *login) certificate() (*tls.Certificate, error) {
	ctx, cancel := l.tasks.NewContext()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, pluginTimeout)
	defer stop()
	cred, err := l.credential(ctx)
	if err != nil {
		return nil, err
	}
	return cred.cert, nil
}

// knows finds out when the credential in a kubeconfig ends: of a certificate, or of a token that says it itself.
func (l *login) knows(config *rest.Config, secure *tls.Config) {
	var ends time.Time
	if l.plugin == nil && secure.GetClientCertificate != nil {
		if cert, err := secure.GetClientCertificate(&tls.CertificateRequestInfo{}); err == nil && len(cert.Certificate) > 0 {
			if leaf, err := x509.ParseCertificate(cert.Certificate[0]); err == nil {
				ends = leaf.NotAfter
			}
		}
	}
	if ends.IsZero() && config.BearerTokenFile == "" {
		ends = tokenEnds(config.BearerToken)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expires = ends
}

// tokenEnds reads the end of a JSON web token (RFC 7519, section 4.1.4); zero for other tokens.
func tokenEnds(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Exp int64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Exp == 0 {
		return time.Time{}
	}
	return time.Unix(claims.Exp, 0)
}

// Expires is when the credential in use ends; zero where that is not known. A plugin's is renewed by itself.
func (l *login) ends() (at time.Time, renewed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plugin != nil {
		if l.cred != nil {
			return l.cred.expires, true
		}
		return time.Time{}, true
	}
	return l.expires, false
}

func digest(parts ...any) string {
	text, err := json.Marshal(parts)
	if err != nil {
		text = fmt.Append(nil, parts...)
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}
