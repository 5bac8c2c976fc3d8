package supervisor

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/localport-sh/localport/forwarder/journal"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
	"github.com/localport-sh/localport/project/watch"
)

// watchFiles takes over what changes in the project's files and in the user's own config, until ctx ends.
func (s *Supervisor) watchFiles(ctx context.Context) {
	w := watch.Start(s.watchedPaths())
	defer w.Close()
	for {
		// Start or SetPaths first, then read: what changes in between is told.
		s.filesChanged(ctx)
		s.setPolling(w.Polling())
		w.SetPaths(s.watchedPaths())
		select {
		case <-w.Changes():
		case <-ctx.Done():
			return
		}
	}
}

// watchedPaths are the files that decide what runs, whether they exist or not.
func (s *Supervisor) watchedPaths() []string {
	root := s.root()
	paths := []string{s.o.Config, filepath.Join(root, project.EnvName)}
	if filepath.Base(s.o.Config) == project.ConfigName {
		paths = append(paths, filepath.Join(root, project.LocalName))
	}
	if own := userConfig(); own != "" {
		paths = append(paths, own)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dotEnvPath != "" && !slices.Contains(paths, s.dotEnvPath) {
		paths = append(paths, s.dotEnvPath) // in a linked worktree it may be the main checkout's
	}
	return paths
}

func userConfig() string {
	home, err := lockstate.ConfigHome()
	if err != nil {
		return ""
	}
	return filepath.Join(home, project.UserConfigName)
}

func (s *Supervisor) setPolling(reason string, polling bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !polling {
		reason = ""
	}
	if reason != s.polling {
		s.log.Info("how changes of the files are noticed", "by_comparing_because", reason)
	}
	s.polling = reason
}

// filesChanged takes over what the files say now, or says why not.
func (s *Supervisor) filesChanged(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	s.readUser()
	_, err := s.Reload(ctx)
	s.mu.Lock()
	pending := ""
	if err != nil && !s.closed {
		pending = s.pending()
	}
	news := pending != s.toldPending
	s.toldPending = pending
	s.mu.Unlock()
	if news && pending != "" {
		s.log.Warn("the files changed", "pending", pending)
		s.news.tell(journal.Event{Kind: journal.Pending, Reason: pending}, "")
	}
}

// readUser heeds the user's own config. One that cannot be read is as if it were absent.
func (s *Supervisor) readUser() {
	user, err := project.DefaultUser(), error(nil)
	if path := userConfig(); path != "" {
		user, err = project.ReadUser(path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && err.Error() != s.userTrouble {
		s.log.Warn("the user's own config is not heeded", "error", err)
	}
	s.userTrouble = ""
	if err != nil {
		s.userTrouble = err.Error()
	}
	s.user = user
	s.logFile.SetLimits(limits(user))
	for _, f := range s.forwards {
		f.lines.SetLimits(limits(user))
	}
	s.news.set(user, s.env.inherited())
}

// refusedFiles is the outcome of a reload that did not come about.
type refusedFiles struct {
	digest string
	err    error
}

// pending says what the files on disk have that does not run, and what they wait for. s.mu is held.
func (s *Supervisor) pending() string {
	files, err := read(s.o.Config)
	if err != nil {
		return s.mask(err.Error())
	}
	verdict, files, err := s.trust.Ask(files)
	digest := files.Digest()
	var invalid *project.Invalid
	switch {
	case err != nil:
		return s.mask(err.Error())
	case digest == s.digest:
		return ""
	case verdict != trust.Allowed:
		return "the files changed and wait for: localport allow"
	case digest == s.refused.digest && errors.As(s.refused.err, &invalid):
		return "the files changed and cannot be used: " + s.mask(invalid.Brief())
	case digest == s.refused.digest:
		return "the files changed and cannot be used: " + s.mask(s.refused.err.Error())
	}
	return "the files changed; they are being taken over"
}
