package supervisor

import (
	"context"
	"time"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/watch"
)

// The times between attempts to apply files that could not be applied.
const (
	firstReloadRetry = time.Second
	maxReloadRetry   = 30 * time.Second
)

// watchFiles reloads the project's files and the user's config when they change, until ctx ends. What could not be applied is tried
// again although the files are unchanged: file descriptors may be free again, a missing key file may exist, or the files may have been
// allowed and the request to reload been lost.
func (s *Supervisor) watchFiles(ctx context.Context) {
	w := watch.Start(s.source.watchedPaths(s.active.Load().files), s.projectEventCh)
	defer w.Close()
	retries := wait.Backoff{First: firstReloadRetry, Max: maxReloadRetry}
	for {
		// Start or SetPaths before reading, or a change in between would be missed.
		var retryCh <-chan time.Time
		if s.reloadChangedFiles(ctx) {
			retries.Reset()
		} else {
			retryCh = time.After(retries.Next())
		}
		pollingReason, _ := w.Polling()
		s.setPollingReason(pollingReason)
		w.SetPaths(s.source.watchedPaths(s.active.Load().files))
		select {
		case <-w.Changes():
			retries.Reset()
		case <-s.pendingChangedCh:
			retries.Reset()
		case <-retryCh:
		case <-ctx.Done():
			return
		}
	}
}

// setPollingReason sets the condition that says why the files are polled; an empty reason means that they are watched.
func (s *Supervisor) setPollingReason(reason string) {
	if setCondition(s, &s.conditions.pollingReason, reason) {
		s.log.Info("file watch mode", "by_comparing_because", reason)
	}
}

// publishedPending is what was published of files that are not active: why, and the digest of those that are.
type publishedPending struct{ reason, digest string }

// reloadChangedFiles applies the files, or sets the condition that says why they are not active. It returns whether all were applied.
func (s *Supervisor) reloadChangedFiles(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	userErr := s.readUserConfig()
	if _, err := s.Reload(ctx); err == nil || s.isClosing.Load() || ctx.Err() != nil {
		s.publishedPending = publishedPending{}
		return userErr == nil
	}
	pending := s.describePending()
	setCondition(s, &s.conditions.pendingReason, pending)
	// A request for the status may have set the condition already.
	if published := (publishedPending{pending, s.active.Load().digest}); pending != "" && published != s.publishedPending {
		s.publishedPending = published
		s.log.Warn("the files changed", "pending", pending)
		s.events.publish(eventlog.Event{Kind: eventlog.ConfigPending, Reason: pending}, "")
	}
	return false
}

// readUserConfig applies the user's config, or the defaults if it cannot be read: the error says why.
func (s *Supervisor) readUserConfig() error {
	user, err := project.DefaultUserConfig(), error(nil)
	if path := userConfigPath(); path != "" {
		user, err = project.ReadUserConfig(path)
	}
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	s.mu.Lock()
	s.user = user
	s.mu.Unlock()
	if setCondition(s, &s.conditions.userConfigError, reason) && err != nil {
		s.log.Warn("ignoring the user config", "error", err)
	}
	s.logFile.SetLimits(logLimits(user))
	if active := s.active.Load(); active != nil {
		for _, svc := range active.services {
			svc.processLog.SetLimits(logLimits(user))
		}
	}
	s.events.setUserConfig(user, s.env.shellEnviron())
	return err
}

// pendingCheckTimeout is how long status waits for the files to be compared: their disk may hang. On a busy machine the comparison takes 100 ms.
const pendingCheckTimeout = 500 * time.Millisecond

// refreshPending compares the files now, because their change event may not have arrived yet. After pendingCheckTimeout the last
// result is shown.
func (s *Supervisor) refreshPending(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pendingCheckTimeout)
	defer cancel()
	doneCh := make(chan struct{})
	select {
	case s.pendingCheckCh <- doneCh:
	case <-ctx.Done():
		return
	}
	select {
	case <-doneCh:
	case <-ctx.Done():
	}
}

// answerPendingChecks compares the files for refreshPending, until ctx ends. A change that no event has reported, such as of what is allowed
// in another checkout, is then applied.
func (s *Supervisor) answerPendingChecks(ctx context.Context) {
	receiveEach(ctx, s.pendingCheckCh, func(doneCh chan struct{}) {
		if setCondition(s, &s.conditions.pendingReason, s.describePending()) {
			wait.Notify(s.pendingChangedCh)
		}
		close(doneCh)
	})
}

// describePending says why the files on disk are not active; empty if they are.
func (s *Supervisor) describePending() string {
	return s.mask(s.source.describePending(s.active.Load(), s.currentConditions().refusedFiles))
}
