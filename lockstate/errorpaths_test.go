package lockstate

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// failCall has the calls of one kind on one file fail.
func failCall(d *Dir, call Call, name string, err error) {
	d.BeforeCall = func(c Call, n string) error {
		if c == call && n == name {
			return err
		}
		return nil
	}
}

func TestUpdate_ReportsACallThatFailsAndChangesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		call Call
		file string
		err  error
		fn   func(*Tx) error
		want string
	}{
		"lock":                        {CallLock, lockName, unix.EIO, incrementCount, "lock"},
		"no descriptor is left":       {CallLock, lockName, unix.EMFILE, incrementCount, "too many open files"},
		"open the state":              {CallOpen, stateName, unix.EIO, incrementCount, stateName},
		"lock the state":              {CallFlock, stateName, unix.EIO, incrementCount, stateName},
		"compare the lock":            {CallStat, lockName, unix.EIO, incrementCount, "stat the lock"},
		"read the state":              {CallRead, stateName, unix.EIO, incrementCount, stateName},
		"write the state":             {CallCreate, stateName, unix.EIO, incrementCount, stateName},
		"rename the state":            {CallRename, stateName, unix.EIO, incrementCount, stateName},
		"open the election":           {CallLock, electionName, unix.EIO, elect, "open the election lock"},
		"no space for the election":   {CallLock, electionName, unix.ENOSPC, elect, electionName},
		"lock the election":           {CallFlock, electionName, unix.EIO, elect, electionName},
		"look at the election's lock": {CallOpen, electionName, unix.EIO, func(tx *Tx) error { tx.IsSupervisorRunning(); return nil }, "check whether a supervisor is running"},
	} {
		t.Run(name, func(t *testing.T) {
			d := openTestDir(t)
			update(t, d, incrementCount)
			failCall(d, test.call, test.file, test.err)
			_, err := d.Update(t.Context(), test.fn)
			if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q and %v", err, test.want, test.err)
			}
			d.BeforeCall = nil
			if st := d.ReadOrZero(); st.Ports["count"] != 1 {
				t.Errorf("the state was changed: %+v", st)
			}
			election := electNow(t, d) // nothing is left locked
			requireNoError(t, election.Resign())
		})
	}
}

func elect(tx *Tx) error {
	_, err := tx.Elect()
	return err
}

func electNow(t *testing.T, d *Dir) (election *Election) {
	t.Helper()
	update(t, d, func(tx *Tx) (err error) {
		election, err = tx.Elect()
		return err
	})
	if election == nil {
		t.Fatal("not elected")
	}
	return election
}

func TestRead_ReportsACallThatFails(t *testing.T) {
	d := openTestDir(t)
	update(t, d, incrementCount)
	failCall(d, CallRead, stateName, unix.EIO)
	if _, err := d.Read(); !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), stateName) {
		t.Errorf("got %v", err)
	}
}

func TestUpdate_ThatIsCancelledWhileItWaitsSaysSo(t *testing.T) {
	d := openTestDir(t)
	l, err := d.tryAcquireLock()
	requireNoError(t, err)
	defer l.release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Update(ctx, incrementCount); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "lock "+d.path(lockName)) {
		t.Errorf("got %v", err)
	}
	if text := (&LockedError{Path: "/x/lock"}).Error(); text != "lock /x/lock: held by another process" {
		t.Error(text)
	}
}

func TestUpdate_OfADirectoryThatIsDeletedInEveryRunEndsWithItsContext(t *testing.T) {
	d := openTestDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	runs := 0
	_, err := d.Update(ctx, func(tx *Tx) error {
		runs++
		return errors.Join(incrementCount(tx), os.Remove(d.path(lockName)))
	})
	if _, isLocked := errors.AsType[*LockedError](err); !isLocked || runs < 2 {
		t.Errorf("after %d runs: %v", runs, err)
	}
}

func TestUpdate_ThatPanicsLeavesNoElection(t *testing.T) {
	d := openTestDir(t)
	func() {
		defer func() { _ = recover() }()
		_, _ = d.Update(t.Context(), func(tx *Tx) error {
			_ = elect(tx)
			panic("a fault of the program")
		})
	}()
	requireNoError(t, electNow(t, d).Resign())
}

func TestUpdate_ContinuesTheNumberOfANewerPromptLine(t *testing.T) {
	d := openTestDir(t)
	before := update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
	data, err := os.ReadFile(d.path(stateName))
	requireNoError(t, err)
	update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
	requireNoError(t, os.WriteFile(d.path(stateName), data, 0o600)) // an older copy
	st := update(t, d, func(tx *Tx) error {
		if !tx.IsOlderCopy {
			t.Error("the state is not known to be older than the line")
		}
		tx.Bump()
		return nil
	})
	if st.Line != before.Line+2 {
		t.Errorf("the line is %d, after %d", st.Line, before.Line)
	}
}

func TestUpdate_OfAFullDiskOverwritesNoShorterState(t *testing.T) {
	d := openTestDir(t)
	update(t, d, incrementCount)
	failCall(d, CallCreate, stateName, unix.ENOSPC)
	_, err := d.Update(t.Context(), func(tx *Tx) error {
		tx.MarkFinal()
		tx.Bump()
		tx.Ports = map[string]int{strings.Repeat("long", 100): 1}
		return nil
	})
	writeErr, isWriteErr := errors.AsType[*WriteError](err)
	if !isWriteErr || writeErr.Fallback == "" {
		t.Fatalf("got %v", err)
	}
	d.BeforeCall = nil
	if st := update(t, d, incrementCount); len(st.Ports) != 2 {
		t.Errorf("what could not be written is lost: %+v", st.Ports)
	}
}

func TestDropElection_OfALostLockIsRepeated(t *testing.T) {
	d := openTestDir(t)
	election := electNow(t, d)
	runs := 0
	update(t, d, func(tx *Tx) error {
		if runs++; runs == 1 {
			requireNoError(t, os.Remove(d.path(lockName)))
		}
		return tx.DropElection()
	})
	if isHeld, err := election.IsHeld(); runs != 2 || isHeld || err != nil {
		t.Errorf("after %d runs the election is held: %v, %v", runs, isHeld, err)
	}
	requireNoError(t, election.Resign())
	if _, err := election.CopyFiles(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a copy of a resigned election: %v", err)
	}
}

func TestScanDirs_ReportsWhatItCannotRead(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_STATE_HOME", home)
	if dirs, err := ListDirs(); len(dirs) > 0 || err != nil {
		t.Errorf("without a state: %v, %v", dirs, err)
	}
	d := useOnce(t, makeProject(t))
	requireNoError(t, os.Remove(d.path(lockName)))
	requireNoError(t, os.Mkdir(d.path(lockName), 0o700))
	if s := survey(t); s.Kind != DirIdle {
		t.Errorf("with a directory instead of the lock: %s: %s", s.Kind, s.Reason)
	}
	projects := filepath.Dir(d.Path)
	requireNoError(t, os.RemoveAll(projects))
	requireNoError(t, os.Symlink(filepath.Base(projects), projects))
	if _, err := ScanDirs(); err == nil {
		t.Error("ScanDirs of a link that leads to itself: no error")
	}
	if _, err := ListDirs(); err == nil {
		t.Error("ListDirs of a link that leads to itself: no error")
	}
}

func TestDirKind_IsPrinted(t *testing.T) {
	for kind, want := range map[DirKind]string{DirUsed: "used", DirIdle: "idle", DirOrphaned: "orphaned", DirUnused: "unused", DirUnknown: "unknown", DirDamaged: "damaged"} {
		if got := kind.String(); got != want {
			t.Errorf("%d is %s, want %s", kind, got, want)
		}
	}
}

func TestProjectKind_OfARelativePathIsNotKnown(t *testing.T) {
	if kind, reason := (&Dir{Path: t.TempDir(), Config: "shop/.localport.toml"}).projectKind(""); kind != DirUnknown || reason != "its config has no absolute path" {
		t.Errorf("%s: %s", kind, reason)
	}
}

func TestRemove_OfADirectoryThatWasReplacedByALinkRemovesNothing(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := useOnce(t, makeProject(t))
	s := survey(t)
	outside := filepath.Join(t.TempDir(), "state")
	requireNoError(t, os.Rename(d.Path, outside))
	requireNoError(t, os.Symlink(outside, d.Path))
	if err := s.Remove(); err == nil || !strings.Contains(err.Error(), "is not a directory of this user") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(outside, stateName)); err != nil {
		t.Error(err)
	}
}

func TestRunDir_ReportsWhatItCannotMake(t *testing.T) {
	setRuntimeDir(t)
	run, err := CreateRunDir("run1")
	requireNoError(t, err)
	if _, err := CreateRunDir("run1"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one: %v", err)
	}
	if err := RecordRunProcesses(filepath.Join(run.Path, "missing"), []Process{Self()}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a record in a directory that is missing: %v", err)
	}
	if found := ListAbandonedRunDirs(); len(found) != 0 {
		t.Errorf("abandoned while it is locked: %q", found)
	}
	run.Release()
	if found := ListAbandonedRunDirs(); len(found) != 1 || found[0] != run.Path {
		t.Errorf("abandoned: %q", found)
	}
	requireNoError(t, run.Remove())
}

func TestParseState_WithoutAnIDIsUnusable(t *testing.T) {
	if _, err := parseState([]byte(`{"version":1,"config":"/x"}`), "/x"); err == nil || err.Error() != "it has no id" {
		t.Errorf("got %v", err)
	}
}
