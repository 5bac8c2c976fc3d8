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
	if own := userConfigPath(); own != "" {
		paths = append(paths, own)
	}
	if path := s.plan.Load().files.DotEnvPath; path != "" && !slices.Contains(paths, path) {
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

func (s *Supervisor) setPolling(reason string, polling bool) {
	if !polling {
		reason = ""
	}
	before := ""
	s.note(func(n *notes) { before, n.polling = n.polling, reason })
	if reason != before {
		s.log.Info("how changes of the files are noticed", "by_comparing_because", reason)
	}
}

// filesChanged takes over what the files say now, or says why not.
func (s *Supervisor) filesChanged(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	s.readUser()
	if _, err := s.Reload(ctx); err == nil || s.closing.Load() || ctx.Err() != nil {
		return
	}
	pending := s.pending()
	before := ""
	s.note(func(n *notes) { before, n.pending = n.pending, pending })
	if pending != before && pending != "" {
		s.log.Warn("the files changed", "pending", pending)
		s.news.tell(eventlog.Event{Kind: eventlog.ConfigPending, Reason: pending}, "")
	}
}

// readUser takes the user's own config over. One that cannot be read is as if it were absent.
func (s *Supervisor) readUser() {
	user, err := project.DefaultUserConfig(), error(nil)
	if path := userConfigPath(); path != "" {
		user, err = project.ReadUserConfig(path)
	}
	trouble, before := "", ""
	if err != nil {
		trouble = err.Error()
	}
	s.note(func(n *notes) {
		before, n.userTrouble = n.userTrouble, trouble
		s.user = user
	})
	if trouble != before && err != nil {
		s.log.Warn("the user's own config is ignored", "error", err)
	}
	s.logFile.SetLimits(limits(user))
	if p := s.plan.Load(); p != nil {
		for _, svc := range p.services {
			svc.lines.SetLimits(limits(user))
		}
	}
	s.news.set(user, s.env.inherited())
}

// userConfig is the user's own config as it was read last.
func (s *Supervisor) userConfig() project.UserConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user
}

// refusedFiles is the outcome of a reload that did not come about.
type refusedFiles struct {
	digest string
	err    error
}

// pendingLimit is how long status waits for a look at the files: they may lie on a disk that hangs.
const pendingLimit = 50 * time.Millisecond

// updatePending has it looked now whether the files have changed, where an event of theirs may still be on its way. What is
// known is good enough where that takes long.
func (s *Supervisor) updatePending(ctx context.Context) {
	timer := time.NewTimer(pendingLimit)
	defer timer.Stop()
	looked := make(chan struct{})
	select {
	case s.pendingCh <- looked:
	case <-timer.C:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-looked:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lookForPending looks at the files for updatePending, until ctx ends.
func (s *Supervisor) lookForPending(ctx context.Context) {
	for {
		select {
		case looked := <-s.pendingCh:
			pending := s.pending()
			s.note(func(n *notes) { n.pending = pending })
			close(looked)
		case <-ctx.Done():
			return
		}
	}
}

// pending says what the files on disk have that does not run, and what they wait for.
func (s *Supervisor) pending() string {
	s.mu.Lock()
	refused := s.notes.refused
	s.mu.Unlock()
	files, err := read(s.o.Config)
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
	case digest == s.plan.Load().digest:
		return ""
	case verdict != trust.Allowed:
		return "the files changed and wait for: localport allow"
	case digest == refused.digest && errors.As(refused.err, &invalid):
		return "the files changed and cannot be used: " + s.mask(invalid.Summary())
	case digest == refused.digest:
		return "the files changed and cannot be used: " + s.mask(refused.err.Error())
	}
	return "the files changed; they are being taken over"
}
