package session

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filestamps"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/forwarder/wait"
)

// authenticator provides the credential for a server. It outlives sessions, so that a plugin that has been run, or has failed, is
// not run again for each forward.
type authenticator struct {
	tasks  *tasks.Group // of the Registry
	plugin *execPlugin  // nil: the kubeconfig contains the credential

	mu               sync.Mutex
	cred             *credential
	pluginDoneCh     chan struct{} // closed when the running plugin has ended; nil: none runs
	cancelPlugin     context.CancelFunc
	pluginStartedAt  time.Time
	outdatedBefore   time.Time // the failure of a plugin that was started before does not count: the user has requested an attempt since
	networkChangedAt time.Time // nor does one because of the network that was started before the last change of it
	failure          *forwarder.Failure
	failedAt         time.Time         // when the plugin that failed was started, if that is known: what was changed later has not been tried
	openedFiles      filestamps.Stamps // of the source that was opened last: what the plugin may have read
	failedFiles      filestamps.Stamps // of the plugin that failed: its failure ends when they change
	haveFilesChanged bool              // while the last plugin that failed ran
	failureCount     int               // of transient failures in a row
	retryAt          time.Time         // when the plugin is run again after a transient failure; zero: not by itself
	expiresAt        time.Time         // of a credential in the kubeconfig; zero: unknown

	credentialChanged wait.Broadcast // announced by useCredential
}

// credential is what a plugin returned. The zero value stands for the kubeconfig's own credential, which the transport adds.
type credential struct {
	token     string
	cert      *tls.Certificate
	expiresAt time.Time
	renewAt   time.Time // when to run the plugin again; zero: never
}

// scheduleRenewal sets renewAt: shortly before the credential expires, but at least a second from now, so that a plugin that
// returns expired credentials is not run in a loop.
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

// renewBefore is how long before it expires a credential is renewed.
const renewBefore = 10 * time.Second

var emptyCredential = &credential{}

// currentCredential returns the credential to use now. It runs the plugin if necessary, once for all concurrent callers. Its error
// is a *forwarder.Failure or that of ctx.
func (a *authenticator) currentCredential(ctx context.Context) (*credential, error) {
	for {
		a.mu.Lock()
		switch {
		case a.failure != nil && (a.retryAt.IsZero() || time.Now().Before(a.retryAt)):
			failure := *a.failure
			a.mu.Unlock()
			return nil, &failure
		case a.plugin == nil:
			a.mu.Unlock()
			return emptyCredential, nil
		case a.cred != nil && (a.cred.renewAt.IsZero() || time.Now().Before(a.cred.renewAt)):
			cred := a.cred
			a.mu.Unlock()
			return cred, nil
		}
		if a.pluginDoneCh == nil {
			a.startPlugin()
		}
		running := a.pluginDoneCh
		a.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			if failure := a.currentFailure(); failure != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, failure
			}
			return nil, ctx.Err()
		}
	}
}

// pluginBackoff is the delays before a plugin is run again that failed because of the network.
var pluginBackoff = wait.Backoff{First: 30 * time.Second, Max: 10 * time.Minute}

// startPlugin starts to run the plugin. a.mu is held.
func (a *authenticator) startPlugin() {
	plugin, doneCh, opened := *a.plugin, make(chan struct{}), a.openedFiles
	a.pluginDoneCh, a.pluginStartedAt = doneCh, time.Now()
	a.cancelPlugin = a.tasks.Go(func(ctx context.Context) { a.runPlugin(ctx, &plugin, doneCh, opened) })
}

// runPlugin runs the plugin, which has its own timeout, and records the result unless setCredential has ended the run. opened are the files that
// the plugin may read.
func (a *authenticator) runPlugin(ctx context.Context, plugin *execPlugin, doneCh chan struct{}, opened filestamps.Stamps) {
	before := opened.Restamp()
	var cred *credential
	var err error
	forwarder.CatchPanic(func() { cred, err = plugin.run(ctx) }, func(failure *forwarder.Failure, _ []byte) { err = failure })
	after := before
	if err != nil {
		after = before.Restamp() // without the mutex, which status needs: a file system may hang
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pluginDoneCh != doneCh {
		return
	}
	switch {
	case err == nil:
		a.useCredential(cred)
	case a.isOutdated(err): // the callers that wait start it again
	default:
		a.setFailure(err, a.pluginStartedAt, before, after)
	}
	a.endPlugin()
}

// isOutdated reports whether the failure of the running plugin says nothing of another run now. a.mu is held.
func (a *authenticator) isOutdated(err error) bool {
	failure, ok := errors.AsType[*forwarder.Failure](err)
	isTransient := ok && failure.Class == forwarder.Transient
	return a.pluginStartedAt.Before(a.outdatedBefore) || isTransient && a.pluginStartedAt.Before(a.networkChangedAt)
}

// endPlugin lets those that wait for the plugin look for a credential or a failure. a.mu is held.
func (a *authenticator) endPlugin() {
	close(a.pluginDoneCh)
	a.pluginDoneCh = nil
}

// recordFailure records that the plugin has failed where another program ran it.
func (a *authenticator) recordFailure(failure *forwarder.Failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setFailure(failure, time.Now(), a.openedFiles, a.openedFiles)
}

// setFailure records why the plugin that was started at a time has failed, and discards the credential. The failure ends when there is another
// credential, or when the files differ from those before the plugin ran: a login in another terminal may have changed them while it did. A plugin
// that itself changes one each time it fails is run once more, and then not before they differ from those after it. a.mu is held.
func (a *authenticator) setFailure(err error, startedAt time.Time, before, after filestamps.Stamps) {
	failure, ok := errors.AsType[*forwarder.Failure](err)
	if !ok {
		failure = &forwarder.Failure{Class: forwarder.NeedsUser, Reason: err.Error()}
	}
	haveChanged, changedCh := !maps.Equal(before, after), a.credentialChanged.Changed()
	a.failedFiles = before
	if haveChanged && a.haveFilesChanged {
		a.failedFiles = after
	}
	a.cred, a.failedAt, a.retryAt, a.haveFilesChanged = nil, startedAt, time.Time{}, haveChanged
	a.failure = failure.AlsoAwaiting(a.failedFiles.AwaitChange).
		AlsoAwaiting(func(ctx context.Context) bool { return wait.UntilClosed(ctx, changedCh) })
	if failure.Class == forwarder.Transient {
		a.failureCount++
		a.retryAt = time.Now().Add(pluginBackoff.After(a.failureCount))
	}
}

// useCredential uses a new credential. a.mu is held.
func (a *authenticator) useCredential(cred *credential) {
	cred.scheduleRenewal()
	a.cred, a.haveFilesChanged = cred, false
	a.clearFailure()
	a.credentialChanged.Announce()
}

// clearFailure forgets the last failure: the plugin is run when a credential is needed. a.mu is held.
func (a *authenticator) clearFailure() {
	a.failure, a.failureCount, a.retryAt = nil, 0, time.Time{}
}

// onNetworkChange has a plugin that failed because of the network run again when a credential is needed, and one that runs if it fails because of that.
func (a *authenticator) onNetworkChange() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.networkChangedAt = time.Now()
	if !a.retryAt.IsZero() {
		a.clearFailure()
	}
}

// discardRejected discards a credential that the server rejected, and reports whether the request is to be retried with another:
// once, and only if a plugin can provide it.
func (a *authenticator) discardRejected(cred *credential, isRetry bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.plugin == nil {
		return false
	}
	if a.cred == cred {
		a.cred = nil
	}
	return !isRetry
}

// clearOutdatedFailure clears a failure that is older than a request or change for which another attempt is made, or than the files of a
// source that is being opened. A plugin that is older than the request runs on, but its failure will not count.
func (a *authenticator) clearOutdatedFailure(limit time.Time, files filestamps.Stamps) {
	a.mu.Lock()
	failure, failedFiles := a.failure, a.failedFiles
	a.mu.Unlock()
	haveChanged := failure != nil && failedFiles.HaveChanged() // without the mutex, which status needs: a file system may hang
	a.mu.Lock()
	defer a.mu.Unlock()
	a.openedFiles = files
	if limit.After(a.outdatedBefore) {
		a.outdatedBefore = limit
	}
	if a.failure != nil && a.failure == failure && (limit.After(a.failedAt) || haveChanged) {
		a.cred = nil
		a.clearFailure()
	}
}

// setCredential sets the credential of a login that the user ran on a terminal. A plugin that runs, and may wait for that login, is ended.
func (a *authenticator) setCredential(cred *credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.useCredential(cred)
	if a.pluginDoneCh != nil {
		a.cancelPlugin()
		a.endPlugin()
	}
}

func (a *authenticator) isPluginRunning() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pluginDoneCh != nil
}

// slowPluginTime is how long a plugin may run before currentFailure says so.
const slowPluginTime = 5 * time.Second

// currentFailure is why there is no credential; nil if there is one, or none has been needed yet.
func (a *authenticator) currentFailure() *forwarder.Failure {
	a.mu.Lock()
	defer a.mu.Unlock()
	if running := time.Since(a.pluginStartedAt); a.failure == nil && a.pluginDoneCh != nil && running >= slowPluginTime {
		return a.plugin.newSlowFailure(running)
	}
	return a.failure
}

// clientCertificate is called by the TLS handshake.
func (a *authenticator) clientCertificate() (*tls.Certificate, error) {
	ctx, cancel := a.tasks.NewContext()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, pluginTimeout)
	defer stop()
	cred, err := a.currentCredential(ctx)
	if err != nil {
		return nil, err
	}
	return cred.cert, nil
}

// readExpiry reads when the kubeconfig's own credential expires, from its certificate or from its token, if that is a JWT.
func (a *authenticator) readExpiry(config *kubeconfig.Config, secure *tls.Config) {
	var expiresAt time.Time
	if a.plugin == nil && secure.GetClientCertificate != nil {
		if cert, err := secure.GetClientCertificate(&tls.CertificateRequestInfo{}); err == nil && len(cert.Certificate) > 0 {
			if leaf, err := x509.ParseCertificate(cert.Certificate[0]); err == nil {
				expiresAt = leaf.NotAfter
			}
		}
	}
	if expiresAt.IsZero() && config.TokenFile == "" {
		expiresAt = kubeconfig.TokenExpiry(config.Token)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expiresAt = expiresAt
}

// expiry returns when the current credential expires, zero if that is unknown, and whether a plugin renews it.
func (a *authenticator) expiry() (at time.Time, isRenewed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.plugin != nil {
		if a.cred != nil {
			return a.cred.expiresAt, true
		}
		return time.Time{}, true
	}
	return a.expiresAt, false
}

func digest(parts ...any) string {
	text, err := json.Marshal(parts)
	if err != nil {
		text = fmt.Append(nil, parts...)
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}
