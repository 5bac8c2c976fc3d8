package supervisor

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/watch"
	"github.com/localport-sh/localport/project/watch/fsevent"
)

// guardInterval is the time between checks of the supervisor's files while some of their changes cause no event, or while one could not be restored.
// Where all changes are reported, they are checked after each, and after slowGuardInterval: something may have been mounted over a directory, or the
// file limit been changed. A check is a few stat calls.
const (
	guardInterval     = time.Second
	slowGuardInterval = leaseInterval
)

// directoryGrace is how long the project directory may be missing, during a fresh checkout for example, before the supervisor ends.
const directoryGrace = 10 * time.Second

// guardOwnFiles is guardFiles, and monitors the files where that is possible.
func (s *Supervisor) guardOwnFiles(ctx context.Context) {
	var monitor *watch.Monitor
	if fsevent.WatchesFiles { // kqueue reports no removed sockets
		monitor = watch.StartMonitor(s.guardedPaths())
		defer monitor.Close()
	}
	s.guardFiles(ctx, monitor)
}

// guardedPaths are the paths whose changes change externalState.
func (s *Supervisor) guardedPaths() []string {
	return append(s.dir.FingerprintedPaths(), s.socket.path())
}

// guardFiles restores the files by which clients find the supervisor when they are deleted, until ctx ends: cleaners remove sockets and
// directories, people remove state files. An unchanged check is a few bare system calls, because code that runs again and again
// stays in memory (see lockstate.Fingerprint).
func (s *Supervisor) guardFiles(ctx context.Context, monitor *watch.Monitor) {
	tick := newGuardTicker()
	defer tick.stop()
	var checkedAt time.Time
	var seen externalState
	var other otherSupervisor
	socketPath := s.socket.path()
	for isIntact := false; s.waitForGuard(ctx, tick, monitor.Events(), isIntact && monitor.IsComplete()); {
		if path := s.socket.path(); path != socketPath {
			socketPath = path
			monitor.SetPaths(s.guardedPaths())
		}
		now := s.readExternalState()
		if isIntact && now == seen && time.Since(checkedAt) < tick.fullCheckInterval() {
			continue
		}
		if s.guardElectionFile(ctx); s.isSuperseded.Load() {
			isIntact = false
			continue // the files at the paths are the elected supervisor's
		}
		s.guardSocket(ctx)
		s.resizeClientSlots(s.active.Load()) // the file limit of a running process can be changed
		s.guardStateFile(ctx, now.files != seen.files)
		isRecorded := s.guardRecord(ctx, &other)
		seen, checkedAt = s.readExternalState(), time.Now()
		if seen.files != now.files {
			wait.Notify(s.leasesChangedCh) // changed during the check
		}
		isElected, _ := s.election.IsHeld() // false if a deleted file could not be locked again yet
		// What was removed during the check is in seen like that.
		isIntact = isElected && isRecorded && seen.files.IsComplete() && s.socket.isReachable() && s.currentConditions().directoryError == ""
	}
}

// guardTicker ticks every guardInterval, or at the aligned ends of slowGuardInterval.
type guardTicker struct {
	fast   *time.Ticker
	slow   *wait.LongTimer
	isSlow bool
}

func newGuardTicker() *guardTicker {
	t := &guardTicker{fast: time.NewTicker(guardInterval), slow: wait.NewLongTimer(slowGuardInterval)}
	t.slow.Stop()
	return t
}

func (t *guardTicker) stop() {
	t.fast.Stop()
	t.slow.Stop()
}

// setSlow is called before each wait for a tick.
func (t *guardTicker) setSlow(isSlow bool) {
	switch {
	case isSlow:
		t.fast.Stop()
		t.slow.Reset(wait.AlignDelay(slowGuardInterval))
	case t.isSlow:
		t.slow.Stop()
		t.fast.Reset(guardInterval)
	}
	t.isSlow = isSlow
}

// fullCheckInterval is the time after which everything is checked, although the files have not changed.
func (t *guardTicker) fullCheckInterval() time.Duration {
	if t.isSlow {
		return slowGuardInterval / 2 // each slow tick, the first of which may come earlier
	}
	return leaseInterval
}

// waitForGuard returns true at the next tick or event, or false as soon as ctx ends or the ports have been closed or handed over.
func (s *Supervisor) waitForGuard(ctx context.Context, tick *guardTicker, eventCh <-chan struct{}, isSlow bool) bool {
	tick.setSlow(isSlow)
	select {
	case <-ctx.Done():
		return false
	case <-s.endedCh:
		return false
	case <-tick.fast.C:
		return true
	case <-tick.slow.C:
		return true
	case <-eventCh:
		return true
	}
}

// externalState is what guardFiles checks. It is comparable.
type externalState struct {
	files     lockstate.Fingerprint
	socket    lockstate.FileID
	fileLimit uint64 // of open files
}

func (s *Supervisor) readExternalState() externalState {
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return externalState{s.dir.Fingerprint(), lockstate.Identify(s.socket.path()), limit.Cur}
}

// guardDirectory ends the supervisor if the project directory is missing for directoryGrace, and returns when ctx ends. A missing config
// file is no reason: an older branch may be checked out. It has a goroutine of its own: the directory may be on a file system that hangs.
func (s *Supervisor) guardDirectory(ctx context.Context) {
	// Its ticks fall between those of guardFiles: two goroutines that run at the same moment take a second thread, with 1.5 MB.
	if !wait.Sleep(ctx, guardInterval/2) {
		return
	}
	tick := newGuardTicker()
	defer tick.stop()
	root := s.root()
	var missingSince time.Time // zero while it is there
	for s.waitForGuard(ctx, tick, s.projectEventCh, fsevent.WatchesFiles && missingSince.IsZero()) {
		if lockstate.Identify(root) != (lockstate.FileID{}) {
			missingSince = time.Time{}
			continue
		}
		if missingSince.IsZero() {
			missingSince = time.Now()
		}
		if time.Since(missingSince) >= directoryGrace {
			s.log.Warn("the project's directory is gone; shutting down", "directory", root)
			_ = s.requestShutdown(ctx, shutdownDirectoryGone)
		}
	}
}

// guardSocket rebinds the control socket if its path no longer leads to it.
func (s *Supervisor) guardSocket(ctx context.Context) {
	path, err := s.dir.SocketPath()
	if err != nil {
		setCondition(s, &s.conditions.directoryError, "cannot create sockets: "+err.Error())
		return
	}
	rebound, err := s.socket.rebind(path)
	if err != nil {
		setCondition(s, &s.conditions.directoryError, "the control socket was removed and cannot be recreated: "+err.Error())
		return
	}
	setCondition(s, &s.conditions.directoryError, "")
	if !rebound {
		return
	}
	s.log.Warn("the control socket was removed; bound it again", "socket", path)
	s.keeper.replaceHeld(socketHoldName, s.socket.copyListener)
	s.updateSuccessor()
	s.saveState(ctx, s.recordSelf, true)
}

// guardElectionFile locks a new election file if the locked one was deleted or replaced: otherwise the next shell would elect a second
// supervisor. If another process has already locked the new one, that is the supervisor and gets the listeners.
func (s *Supervisor) guardElectionFile(ctx context.Context) {
	isHeld, err := s.election.IsHeld()
	if isHeld || err != nil || s.isClosing.Load() {
		return
	}
	lockCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	defer cancel()
	if s.beginOperation(lockCtx) != nil {
		return // it is ending or being replaced, or guardFiles retries in a second
	}
	defer s.endOperation()
	var elected *lockstate.Election
	isLost, isAwaited := false, false
	_, err = s.dir.Update(lockCtx, func(tx *lockstate.Tx) error {
		var err error
		elected, isLost, isAwaited = nil, false, tx.IsTakeoverAwaited()
		if isAwaited {
			return nil
		}
		elected, err = tx.Reelect(s.election)
		isLost = err == nil && elected == nil
		if err != nil || isLost && s.isSuperseded.Load() { // then the leases are the other supervisor's by now
			return err
		}
		s.store.restoreLost(tx)
		if !isLost {
			s.recordSelf(&tx.State)
			tx.Bump()
		}
		return nil
	})
	if elected != nil && elected.IsResigned() {
		elected = nil // the run that locked it could not be repeated
	}
	switch {
	case isAwaited && err == nil: // the supervisor that takes over is not elected yet
	case elected == nil && !isLost: // guardFiles retries in a second
		s.log.Error("the election file is gone and cannot be locked again", "error", err)
	case isLost:
		s.onSuperseded(ctx)
	case elected != s.election:
		s.log.Warn("the election file was deleted; a new one is locked")
		s.keeper.replaceHeld(electionHoldName, elected.CopyFiles)
		before := s.election
		s.election = elected
		_ = before.Handover()
		s.isSuperseded.Store(false)
		wait.Notify(s.leasesChangedCh)
	}
}

// guardStateFile has the leases read again if the state file has changed, and rewrites deleted files.
func (s *Supervisor) guardStateFile(ctx context.Context, changed bool) {
	// After a write error the store retries, which creates the files too.
	if s.store.writeError() == nil && !s.dir.Fingerprint().IsComplete() {
		s.saveState(ctx, noChange, true)
		changed = true
	}
	if changed {
		wait.Notify(s.leasesChangedCh)
	}
}

// otherSupervisor is another living supervisor that the state records.
type otherSupervisor struct {
	process lockstate.Process
	seenAt  time.Time // when it was first found recorded
}

// otherSupervisorGrace is how long another living supervisor must be recorded before this one leaves the ports to it: a new supervisor whose
// keeper has ended exits within that time.
const otherSupervisorGrace = 5 * time.Second

// guardRecord restores this supervisor's record in the state, and reports whether it is there. If another living supervisor is recorded,
// the keeper ended during a replacement, before the old supervisor learned that the new one is ready. Both have the ports and the election
// lock; the one that is not recorded leaves them to the other.
func (s *Supervisor) guardRecord(ctx context.Context, other *otherSupervisor) bool {
	lockCtx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err := s.store.refresh(lockCtx)
	if record := s.store.state().Supervisor; record != nil && record.Process == s.self {
		*other = otherSupervisor{}
		return true
	}
	if err != nil || s.beginOperation(lockCtx) != nil { // during a replacement the successor is recorded
		return false
	}
	defer s.endOperation()
	record := s.store.state().Supervisor
	switch {
	case record == nil || !record.IsAlive():
		s.log.Warn("the state does not record this supervisor; recording it again")
		s.saveState(ctx, s.recordSelf, true)
	case record.Process != other.process:
		*other = otherSupervisor{record.Process, time.Now()}
	case time.Since(other.seenAt) >= otherSupervisorGrace:
		s.log.Warn("another supervisor has taken over the ports", "pid", record.PID)
		s.leaveTo(s.watchExit(ctx, record.Process))
	}
	return false
}

// watchExit returns a channel that is closed when a process has ended, or when ctx ends.
func (s *Supervisor) watchExit(ctx context.Context, p lockstate.Process) <-chan struct{} {
	endedCh := make(chan struct{})
	s.tasks.Go(func() {
		defer close(endedCh)
		_ = lockstate.WaitExit(ctx, p)
	})
	return endedCh
}
