package supervisor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
	"github.com/localport-sh/localport/project/watch"
)

// The times between attempts to apply files that could not be applied.
const (
	firstReloadRetry = time.Second
	maxReloadRetry   = 30 * time.Second
)

// watchFiles reloads the project's files and the user's config when they change, until ctx ends. What could not be applied is tried
// again, although the files stay as they are: there may be descriptors again, the missing key file, or the approval, whose request
// to reload may have been lost.
func (s *Supervisor) watchFiles(ctx context.Context) {
	w := watch.Start(s.watchedPaths())
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
		s.setPollingReason(w.Polling())
		w.SetPaths(s.watchedPaths())
		select {
		case <-w.Changes():
			retries.Reset()
		case <-retryCh:
		case <-ctx.Done():
			return
		}
	}
}

// watchedPaths are the files that the config depends on, whether they exist or not.
func (s *Supervisor) watchedPaths() []string {
	root := s.root()
	paths := []string{s.options.Config, filepath.Join(root, project.EnvName)}
	if filepath.Base(s.options.Config) == project.ConfigName {
		paths = append(paths, filepath.Join(root, project.LocalName))
	}
	if own := userConfigPath(); own != "" {
		paths = append(paths, own)
	}
	if path := s.active.Load().files.DotEnvPath; path != "" && !slices.Contains(paths, path) {
		paths = append(paths, path) // in a linked worktree it may be the main checkout's
	}
	return paths
}

func userConfigPath() string {
	home, err := lockstate.ConfigHome()
	if err != nil {
		return ""
	}
	return filepath.Join(home, project.UserConfigName)
}

func (s *Supervisor) setPollingReason(reason string, polling bool) {
	if !polling {
		reason = ""
	}
	before := ""
	s.updateConditions(func(n *conditions) { before, n.pollingReason = n.pollingReason, reason })
	if reason != before {
		s.log.Info("file watch mode", "by_comparing_because", reason)
	}
}

// reloadChangedFiles applies the files, or sets the condition that says why they are not active. It returns whether all were applied.
func (s *Supervisor) reloadChangedFiles(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	userErr := s.readUserConfig()
	if _, err := s.Reload(ctx); err == nil || s.isClosing.Load() || ctx.Err() != nil {
		return userErr == nil
	}
	pending := s.describePending()
	before := ""
	s.updateConditions(func(n *conditions) { before, n.pendingReason = n.pendingReason, pending })
	if pending != before && pending != "" {
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
	reason, before := "", ""
	if err != nil {
		reason = err.Error()
	}
	s.updateConditions(func(n *conditions) {
		before, n.userConfigError = n.userConfigError, reason
		s.user = user
	})
	if reason != before && err != nil {
		s.log.Warn("ignoring the user config", "error", err)
	}
	s.logFile.SetLimits(logLimits(user))
	if p := s.active.Load(); p != nil {
		for _, svc := range p.services {
			svc.processLog.SetLimits(logLimits(user))
		}
	}
	s.events.setUserConfig(user, s.env.successorEnviron())
	return err
}

// userConfig is the user's config as last read.
func (s *Supervisor) userConfig() project.UserConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user
}

// refusedFiles is the outcome of the last reload that failed.
type refusedFiles struct {
	digest string
	err    error
}

// equals reports whether both say the same, so that another attempt with the same outcome is no news.
func (r refusedFiles) equals(other refusedFiles) bool {
	return r.digest == other.digest && r.err != nil && other.err != nil && r.err.Error() == other.err.Error()
}

// pendingCheckTimeout is how long status waits for the files to be compared: their disk may hang.
const pendingCheckTimeout = 50 * time.Millisecond

// refreshPending compares the files now, because their change event may not have arrived yet. After pendingCheckTimeout the last
// result has to do.
func (s *Supervisor) refreshPending(ctx context.Context) {
	timer := time.NewTimer(pendingCheckTimeout)
	defer timer.Stop()
	doneCh := make(chan struct{})
	select {
	case s.pendingCheckCh <- doneCh:
	case <-timer.C:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-doneCh:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// answerPendingChecks compares the files for refreshPending, until ctx ends.
func (s *Supervisor) answerPendingChecks(ctx context.Context) {
	for {
		select {
		case doneCh := <-s.pendingCheckCh:
			pending := s.describePending()
			s.updateConditions(func(n *conditions) { n.pendingReason = pending })
			close(doneCh)
		case <-ctx.Done():
			return
		}
	}
}

// describePending says why the files on disk are not active; empty if they are.
func (s *Supervisor) describePending() string {
	s.mu.Lock()
	refused := s.conditions.refusedFiles
	s.mu.Unlock()
	files, err := project.ReadFiles(s.options.Config)
	if _, statErr := os.Stat(s.root()); errors.Is(statErr, fs.ErrNotExist) {
		return "the project's directory is gone; the supervisor ends soon"
	}
	if err != nil {
		return s.mask(err.Error())
	}
	verdict, files, err := s.trust.Ask(files)
	digest := files.Digest()
	var invalid *project.InvalidError
	switch {
	case err != nil:
		return s.mask(err.Error())
	case digest == s.active.Load().digest:
		return ""
	case verdict != trust.Allowed:
		return `the config files changed; review them, then run "localport allow"`
	case digest == refused.digest && errors.As(refused.err, &invalid):
		return "the files changed and cannot be used: " + s.mask(invalid.Summary())
	case digest == refused.digest:
		return "the files changed and cannot be used: " + s.mask(refused.err.Error())
	}
	return "the config files changed and are being applied"
}
