package lockstate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failOn makes calls on a directory fail.
func failOn(d *Dir, errno syscall.Errno, calls ...Call) {
	d.BeforeCall = func(call Call, _ string) error {
		if slices.Contains(calls, call) {
			return &os.PathError{Op: "write", Path: ".new-123", Err: errno}
		}
		return nil
	}
}

func TestUpdate_UnwritableStateIsAWriteErrorAndUnchanged(t *testing.T) {
	setRuntimeDir(t)
	d := openTestDir(t)
	update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
	for _, call := range []Call{CallCreate, CallRename} {
		failOn(d, syscall.ENOSPC, call)
		var election *Election
		st, err := d.Update(t.Context(), func(tx *Tx) (err error) {
			tx.Failure = "new"
			tx.Bump()
			election, err = tx.Elect()
			return err
		})
		writeErr, ok := errors.AsType[*WriteError](err)
		if !ok || !errors.Is(err, syscall.ENOSPC) || writeErr.Fallback != "" || strings.Contains(err.Error(), ".new-") {
			t.Errorf("%s: %v", call, err)
		}
		if st.Failure != "new" || election.IsResigned() {
			t.Errorf("%s: the state is not the changed one, or the election is lost", call)
		}
		requireNoError(t, election.Resign())
		if !election.IsResigned() {
			t.Error("it is not resigned")
		}
		d.BeforeCall = nil
		if st := d.ReadOrZero(); st.Failure != "" || st.Line != 1 {
			t.Errorf("%s: the file has %+v", call, st)
		}
	}
}

// A final change is written over the old state or, if that fails too, into the runtime directory, from where the next Update takes it.
func TestUpdate_FinalChangeSurvivesAFullDisk(t *testing.T) {
	for name, calls := range map[string][]Call{"overwritten": {CallCreate}, "fallback": {CallCreate, CallOverwrite}} {
		t.Run(name, func(t *testing.T) {
			setRuntimeDir(t)
			d := openTestDir(t)
			update(t, d, func(tx *Tx) error {
				tx.AddLease(Lease{Kind: StartLease, Since: time.Now()})
				tx.Bump()
				return nil
			})
			failOn(d, syscall.ENOSPC, calls...)
			_, err := d.Update(t.Context(), func(tx *Tx) error {
				tx.RemoveLease(StartLease, Process{})
				tx.Bump()
				tx.MarkFinal()
				return nil
			})
			writeErr, isUnwritable := errors.AsType[*WriteError](err)
			if isUnwritable != (name == "fallback") || isUnwritable && writeErr.Fallback == "" {
				t.Fatalf("the error is %v", err)
			}
			if st := d.ReadOrZero(); len(st.Leases) > 0 || st.Line != 2 {
				t.Errorf("read: %+v", st)
			}
			d.BeforeCall = nil
			update(t, d, func(tx *Tx) error {
				if len(tx.Leases) > 0 {
					t.Errorf("the released lease is back: %v", tx.Leases)
				}
				tx.AddLease(Lease{Kind: ShellLease, Process: Self(), Since: time.Now()})
				return nil
			})
			if isUnwritable {
				if _, err := os.Stat(writeErr.Fallback); !os.IsNotExist(err) {
					t.Errorf("the fallback is left: %v", err)
				}
			}
			if st := d.ReadOrZero(); len(st.Leases) != 1 {
				t.Errorf("after: %+v", st)
			}
		})
	}
}

func TestDropElection_LetsAnotherSupervisorBeElected(t *testing.T) {
	d := openTestDir(t)
	var first, second *Election
	elect := func(election **Election) func(*Tx) error {
		return func(tx *Tx) (err error) {
			*election, err = tx.Elect()
			return err
		}
	}
	update(t, d, elect(&first))
	update(t, d, elect(&second))
	if second != nil {
		t.Fatal("two supervisors are elected")
	}
	st := update(t, d, func(tx *Tx) error { return tx.DropElection() })
	if !st.TakeoverUntil.After(time.Now()) {
		t.Errorf("takeover until %v", st.TakeoverUntil)
	}
	if isHeld, err := first.IsHeld(); isHeld || err != nil {
		t.Errorf("the first one is held: %v, %v", isHeld, err)
	}
	update(t, d, elect(&second))
	if second == nil {
		t.Fatal("no second supervisor is elected")
	}
	update(t, d, func(tx *Tx) error {
		again, err := tx.Reelect(second)
		if again != second {
			t.Error("a valid election was replaced")
		}
		return err
	})
	copies, err := second.CopyFiles()
	requireNoError(t, err)
	requireNoError(t, second.Handover())
	update(t, d, func(tx *Tx) error {
		if !tx.IsSupervisorRunning() {
			t.Error("after the handover, the copy does not hold the election")
		}
		return nil
	})
	inherited := d.Inherit(copies[0])
	requireNoError(t, inherited.Resign())
	for _, e := range []*Election{first, second, inherited} {
		requireNoError(t, e.Resign())
		requireNoError(t, e.Handover())
		if _, err := e.CopyFiles(); err == nil && e != first {
			t.Error("a resigned election was copied")
		}
	}
}

func TestState_LeasesAsOfATime(t *testing.T) {
	lease := Lease{Kind: ShellLease, Process: Self(), Since: time.Now()}
	st := State{Leases: []Lease{lease}}
	st.RemoveLeaseAsOf(lease, lease.Since.Add(-time.Second))
	if len(st.Leases) != 1 {
		t.Error("a lease that was taken later is removed")
	}
	st.RemoveLeaseAsOf(lease, lease.Since)
	if len(st.Leases) != 0 {
		t.Error("the lease is left")
	}
}

func TestRecordedService_EqualComparesAllFields(t *testing.T) {
	s := RecordedService{Name: "web", Addresses: []string{"127.0.0.1:80"}, Held: true}
	for _, other := range []RecordedService{
		{Name: "db", Addresses: s.Addresses, Held: true}, {Name: "web", Held: true}, {Name: "web", Addresses: s.Addresses},
	} {
		if s.Equal(other) || !s.Equal(s) {
			t.Errorf("%v equals %v", s, other)
		}
	}
}

func TestFingerprint_IsCompleteWhileStateAndLineExist(t *testing.T) {
	d := openTestDir(t)
	if d.Fingerprint().IsComplete() {
		t.Error("it is complete without a state")
	}
	update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
	before := d.Fingerprint()
	if !before.IsComplete() || before != d.Fingerprint() {
		t.Error("it is incomplete, or differs although nothing has changed")
	}
	requireNoError(t, os.Remove(d.path("prompt")))
	if d.Fingerprint().IsComplete() {
		t.Error("it is complete without the line")
	}
	requireNoError(t, os.Mkdir(d.path("prompt"), 0o700))
	if d.Fingerprint().IsComplete() {
		t.Error("it is complete with a directory in place of the line")
	}
	if got, want := d.LogPath("web"), filepath.Join(d.Path, "log/web.log"); got != want {
		t.Errorf("the log is %s, want %s", got, want)
	}
}

// allDead is a process table without processes.
type allDead struct{}

func (allDead) IsAlive(Process) bool                    { return false }
func (allDead) WaitExit(context.Context, Process) error { return nil }

func TestSimulateProcesses_ReplacesTheTable(t *testing.T) {
	restore := SimulateProcesses(allDead{})
	isAlive, err := Self().IsAlive(), WaitExit(t.Context(), Self())
	restore()
	if isAlive || err != nil || !Self().IsAlive() {
		t.Errorf("alive %v, error %v", isAlive, err)
	}
}

func TestNotRegularError_NamesWhatIsThere(t *testing.T) {
	d := openTestDir(t)
	requireNoError(t, os.Symlink("/dev/null", d.path(stateName)))
	if _, err := d.Read(); err == nil || !strings.Contains(err.Error(), "is a device, not a regular file; remove it") {
		t.Errorf("a device: %v", err)
	}
	projects := filepath.Dir(d.Path)
	requireNoError(t, os.RemoveAll(projects))
	requireNoError(t, os.WriteFile(projects, nil, 0o600))
	if _, err := Open(d.Config); err == nil || !strings.Contains(err.Error(), projects+" is a regular file, not a directory; remove it") {
		t.Errorf("a file instead of the directory: %v", err)
	}
}
