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

// guard looks again and again whether what others find the supervisor by is still there, and mends it, until ctx ends: cleaners
// remove sockets and directories, and people remove state files. As long as all is as it was, a look is a few bare system calls:
// what runs every second stays in memory (see lockstate.Fingerprint).
func (s *Supervisor) guard(ctx context.Context) {
	tick := time.NewTicker(guardInterval)
	defer tick.Stop()
	root := s.root()
	var missingSince, guarded time.Time
	var seen surroundings
	for isWell := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		case <-tick.C:
		}
		now := s.lookAround(root)
		if isWell && now == seen && time.Since(guarded) < leaseInterval {
			continue
		}
		if s.guardElection(ctx); s.isSuperseded.Load() {
			isWell = false
			continue // what lies at the paths is another's
		}
		s.guardSocket()
		s.resizeSeats(s.plan.Load()) // the file limit of a running process can be changed
		s.guardState(now.files != seen.files)
		missingSince = s.guardDirectory(ctx, missingSince)
		seen, guarded = s.lookAround(root), time.Now()
		if seen.files != now.files {
			wait.Notify(s.wake) // changed meanwhile, by this or by others
		}
		isWell = missingSince.IsZero() && seen.files.IsComplete() && !s.hasNoteOfDirectory()
	}
}

// surroundings is what a supervisor depends on outside of itself. It can be compared.
type surroundings struct {
	files        lockstate.Fingerprint
	socket, root lockstate.FileID
	limit        uint64 // of open files
}

func (s *Supervisor) lookAround(root string) surroundings {
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return surroundings{s.dir.Fingerprint(), lockstate.Identify(s.socket.path()), lockstate.Identify(root), limit.Cur}
}

func (s *Supervisor) hasNoteOfDirectory() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes.directory != ""
}

// guardSocket binds the control socket again if its path does not lead to it any more.
func (s *Supervisor) guardSocket() {
	path, err := s.dir.SocketPath()
	if err != nil {
		s.noteDirectory("sockets cannot be made: " + err.Error())
		return
	}
	rebound, err := s.socket.rebind(path)
	if err != nil {
		s.noteDirectory("the control socket is gone and cannot be made again: " + err.Error())
		return
	}
	s.noteDirectory("")
	if !rebound {
		return
	}
	s.log.Warn("the control socket was removed; it is bound again", "socket", path)
	s.keeping.holdInstead(keptSocket, s.socket.files)
	s.remind()
	s.save(s.recordSelf, true)
}

func (s *Supervisor) noteDirectory(text string) { s.note(func(n *notes) { n.directory = text }) }

// guardElection locks a new election file if the one that is locked was deleted or replaced: otherwise the next shell would
// elect a second supervisor. If another process has locked it already, that one is the supervisor, and is handed the listeners.
func (s *Supervisor) guardElection(ctx context.Context) {
	holds, err := s.election.Holds()
	if holds || err != nil || s.closing.Load() {
		return
	}
	limited, cancel := context.WithTimeout(context.Background(), lockLimit)
	defer cancel()
	if s.beginAct(limited) != nil {
		return // it is ending or being replaced, or looked at again in a second
	}
	defer s.endAct()
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
		s.keeping.holdInstead(keptElection, elected.CopyFiles)
		before := s.election
		s.election = elected
		_ = before.Handover()
		s.isSuperseded.Store(false)
		wait.Notify(s.wake)
	}
}

// guardState has the leases read again when the state file has changed, whoever changed it and whether it was said or not, and
// has what was deleted written again.
func (s *Supervisor) guardState(changed bool) {
	// What could not be written before is tried again by the store, and makes the files too.
	if _, behind := s.store.isBehind(); !behind && !s.dir.Fingerprint().IsComplete() {
		s.save(bump, true)
		changed = true
	}
	if changed {
		wait.Notify(s.wake)
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
		_ = s.requestRetire(ctx, reasonDirectoryGone)
	}
	return missingSince
}
