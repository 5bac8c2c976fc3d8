package supervisor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// guardInterval is how often the supervisor looks whether its files still are what it takes them for. A look is a few stats.
const guardInterval = time.Second

// directoryGrace is how long a project's directory may be missing, as while it is checked out anew, before its supervisor ends.
const directoryGrace = 10 * time.Second

// guardFiles looks again and again whether what others find the supervisor by is still there, and mends it, until ctx ends: cleaners
// remove sockets and directories, and people remove state files. As long as all is as it was, a look is a few bare system calls:
// what runs every second stays in memory (see lockstate.Fingerprint).
func (s *Supervisor) guardFiles(ctx context.Context) {
	tick := time.NewTicker(guardInterval)
	defer tick.Stop()
	root := s.root()
	var missingSince, guarded time.Time
	var seen externalState
	for isIntact := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-s.endedCh:
			return
		case <-tick.C:
		}
		now := s.readExternalState(root)
		if isIntact && now == seen && time.Since(guarded) < leaseInterval {
			continue
		}
		if s.guardElectionFile(ctx); s.isSuperseded.Load() {
			isIntact = false
			continue // what lies at the paths is another's
		}
		s.guardSocket()
		s.resizeClientSlots(s.active.Load()) // the file limit of a running process can be changed
		s.guardStateFile(now.files != seen.files)
		missingSince = s.guardDirectory(ctx, missingSince)
		seen, guarded = s.readExternalState(root), time.Now()
		if seen.files != now.files {
			wait.Notify(s.leasesChangedCh) // changed meanwhile, by this or by others
		}
		isIntact = missingSince.IsZero() && seen.files.IsWhole() && !s.hasDirectoryError()
	}
}

// externalState is what a supervisor depends on outside of itself. It can be compared.
type externalState struct {
	files        lockstate.Fingerprint
	socket, root lockstate.FileID
	fileLimit    uint64 // of open files
}

func (s *Supervisor) readExternalState(root string) externalState {
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return externalState{s.dir.Fingerprint(), lockstate.Identify(s.socket.path()), lockstate.Identify(root), limit.Cur}
}

func (s *Supervisor) hasDirectoryError() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conditions.directoryError != ""
}

// guardSocket binds the control socket again if its path does not lead to it any more.
func (s *Supervisor) guardSocket() {
	path, err := s.dir.SocketPath()
	if err != nil {
		s.setDirectoryError("sockets cannot be made: " + err.Error())
		return
	}
	rebound, err := s.socket.rebind(path)
	if err != nil {
		s.setDirectoryError("the control socket is gone and cannot be made again: " + err.Error())
		return
	}
	s.setDirectoryError("")
	if !rebound {
		return
	}
	s.log.Warn("the control socket was removed; it is bound again", "socket", path)
	s.keeper.replaceHeld(socketHoldName, s.socket.copyListener)
	s.updateSuccessor()
	s.saveState(s.recordSelf, true)
}

func (s *Supervisor) setDirectoryError(text string) {
	s.updateConditions(func(n *conditions) { n.directoryError = text })
}

// guardElectionFile locks a new election file if the one that is locked was deleted or replaced: otherwise the next shell would
// elect a second supervisor. If another process has locked it already, that one is the supervisor, and is handed the listeners.
func (s *Supervisor) guardElectionFile(ctx context.Context) {
	holds, err := s.election.Holds()
	if holds || err != nil || s.isClosing.Load() {
		return
	}
	limited, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	if s.beginOperation(limited) != nil {
		return // it is ending or being replaced, or looked at again in a second
	}
	defer s.endOperation()
	var elected *lockstate.Election
	isLost := false
	_, err = s.dir.Update(limited, func(tx *lockstate.Tx) error {
		var err error
		elected, err = tx.Reelect(s.election)
		isLost = err == nil && elected == nil
		if err != nil {
			return err
		}
		if isLost && s.isSuperseded.Load() {
			return nil // the leases are the other supervisor's by now
		}
		s.store.restoreLost(tx)
		if isLost {
			return nil
		}
		s.recordSelf(&tx.State)
		tx.Bump()
		return nil
	})
	switch {
	case elected == nil && !isLost: // it could not be made, or the state not be locked: looked at again in a second
		s.log.Error("the election file is gone and cannot be locked again", "error", err)
	case isLost:
		s.onSuperseded(ctx)
	case elected != s.election:
		s.log.Warn("the election file was deleted; a new one is locked")
		s.keeper.replaceHeld(electionHoldName, elected.Files)
		before := s.election
		s.election = elected
		_ = before.Pass()
		s.isSuperseded.Store(false)
		wait.Notify(s.leasesChangedCh)
	}
}

// guardStateFile has the leases read again when the state file has changed, whoever changed it and whether it was said or not, and
// has what was deleted written again.
func (s *Supervisor) guardStateFile(changed bool) {
	// What could not be written before is tried again by the store, and makes the files too.
	if _, behind := s.store.writeError(); !behind && !s.dir.Fingerprint().IsWhole() {
		s.saveState(bumpLine, true)
		changed = true
	}
	if changed {
		wait.Notify(s.leasesChangedCh)
	}
}

// guardDirectory ends the supervisor of a project whose directory is gone for longer than a moment. Its file alone may be gone:
// an older branch may be checked out.
func (s *Supervisor) guardDirectory(ctx context.Context, missingSince time.Time) time.Time {
	_, err := os.Stat(s.root())
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return time.Time{}
	}
	if missingSince.IsZero() {
		return time.Now()
	}
	if time.Since(missingSince) >= directoryGrace {
		s.log.Warn("the project's directory is gone; its supervisor ends", "directory", s.root())
		_ = s.requestShutdown(ctx, shutdownDirectoryGone)
	}
	return missingSince
}
