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

// authenticator is who we are to a server. It outlives sessions, so that a plugin that was run, or that failed, is not run again
// for each forward.
type authenticator struct {
	tasks  *tasks.Group // of all who share it
	plugin *execPlugin  // nil: the kubeconfig itself holds the credential

	mu           sync.Mutex
	cred         *credential
	pluginDoneCh chan struct{} // closed when the plugin that runs now has ended
	failure      *forwarder.Failure
	failedAt     time.Time // when it did
	expiresAt    time.Time // of a credential in the kubeconfig; zero: unknown
}

// credential is what a plugin gave. The zero value is that of a kubeconfig, which the transport has already.
type credential struct {
	token     string
	cert      *tls.Certificate
	expiresAt time.Time
	renewAt   time.Time // when to ask for the next; zero: never
}

// scheduleRenewal sets when the next credential is to be asked for: before the end, but not at once, whatever the end is.
func (c *credential) scheduleRenewal() {
	if !c.expiresAt.IsZero() {
		c.renewAt = c.expiresAt.Add(-renewBefore)
		if soonest := time.Now().Add(time.Second); c.renewAt.Before(soonest) {
			c.renewAt = soonest
		}
	}
}

func (c *credential) setHeader(req *http.Request) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
}

// renewBefore is how long before its end a credential is renewed.
const renewBefore = 10 * time.Second

var emptyCredential = &credential{}

// currentCredential is the one to use now. Of several callers at once only one runs the plugin.
func (l *authenticator) currentCredential(ctx context.Context) (*credential, error) {
	for {
		l.mu.Lock()
		switch {
		case l.failure != nil:
			failure := *l.failure
			l.mu.Unlock()
			return nil, &failure
		case l.plugin == nil:
			l.mu.Unlock()
			return emptyCredential, nil
		case l.cred != nil && (l.cred.renewAt.IsZero() || time.Now().Before(l.cred.renewAt)):
			cred := l.cred
			l.mu.Unlock()
			return cred, nil
		}
		if l.pluginDoneCh == nil {
			l.pluginDoneCh = make(chan struct{})
			ended := l.pluginDoneCh
			l.tasks.Go(func(ctx context.Context) { l.runPlugin(ctx, ended) })
		}
		running := l.pluginDoneCh
		l.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// runPlugin runs the plugin; it ends by itself.
func (l *authenticator) runPlugin(ctx context.Context, doneCh chan struct{}) {
	var cred *credential
	var err error
	forwarder.Contain(func() { cred, err = l.plugin.run(ctx) }, func(failure *forwarder.Failure, _ []byte) { err = failure })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cred = cred
	if err != nil {
		l.setFailure(err)
	} else {
		cred.scheduleRenewal()
	}
	l.pluginDoneCh = nil
	close(doneCh)
}

func (l *authenticator) setFailure(err error) {
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok {
		failure = &forwarder.Failure{Class: forwarder.ByAttention, Reason: err.Error()}
	}
	l.failure, l.failedAt = failure, time.Now()
}

// discardRejected notes that the server takes a credential no longer; true where another is to be had, which is tried once.
func (l *authenticator) discardRejected(cred *credential, isRetry bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plugin == nil {
		return false
	}
	if l.cred == cred {
		l.cred = nil
	}
	return !isRetry
}

// clearFailureBefore forgets a failure from before the user asked for another attempt.
func (l *authenticator) clearFailureBefore(asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil && asked.After(l.failedAt) {
		l.failure, l.cred = nil, nil
	}
}

// setCredential takes a credential that the user has got by a login in the foreground.
func (l *authenticator) setCredential(cred *credential) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cred.scheduleRenewal()
	l.cred, l.failure = cred, nil
}

// currentFailure is why there is no credential, nil if there is one or may be.
func (l *authenticator) currentFailure() *forwarder.Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// clientCertificate is what TLS asks for.
func (l *authenticator) clientCertificate() (*tls.Certificate, error) {
	ctx, cancel := l.tasks.Context()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, pluginTimeout)
	defer stop()
	cred, err := l.currentCredential(ctx)
	if err != nil {
		return nil, err
	}
	return cred.cert, nil
}

// readExpiry finds out when the credential in a kubeconfig ends: of a certificate, or of a token that says it itself.
func (l *authenticator) readExpiry(config *rest.Config, secure *tls.Config) {
	var expiresAt time.Time
	if l.plugin == nil && secure.GetClientCertificate != nil {
		if cert, err := secure.GetClientCertificate(&tls.CertificateRequestInfo{}); err == nil && len(cert.Certificate) > 0 {
			if leaf, err := x509.ParseCertificate(cert.Certificate[0]); err == nil {
				expiresAt = leaf.NotAfter
			}
		}
	}
	if expiresAt.IsZero() && config.BearerTokenFile == "" {
		expiresAt = tokenExpiry(config.BearerToken)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiresAt = expiresAt
}

// tokenExpiry reads the end of a JSON web token (RFC 7519, section 4.1.4); zero for other tokens.
func tokenExpiry(token string) time.Time {
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
func (l *authenticator) expiry() (at time.Time, renewed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plugin != nil {
		if l.cred != nil {
			return l.cred.expiresAt, true
		}
		return time.Time{}, true
	}
	return l.expiresAt, false
}

func digest(parts ...any) string {
	text, err := json.Marshal(parts)
	if err != nil {
		text = fmt.Append(nil, parts...)
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}
