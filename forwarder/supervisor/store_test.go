package supervisor

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
)

// newElectedSupervisor is a supervisor that has won its election and does nothing yet.
func newElectedSupervisor(t *testing.T) *Supervisor {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, home)
	}
	s, err := newSupervisor(Options{
		Config: filepath.Join(home, ".localport.toml"), RunID: "aaaaaaaa", LogLevel: new(slog.LevelVar), OnStartResult: func(client.Readiness) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.logFile.Close(); s.events.notifier.Close() })
	if _, err := s.elect(t.Context()); err != nil || s.election == nil {
		t.Fatalf("elected %v, %v", s.election, err)
	}
	t.Cleanup(func() { _ = s.election.Resign() })
	return s
}

func shellLease(p lockstate.Process) lockstate.Lease {
	return lockstate.Lease{Kind: lockstate.ShellLease, Process: p}
}

func TestSupervisor_KeepsLeasesOfDeletedState(t *testing.T) {
	s := newElectedSupervisor(t)
	s.saveState(t.Context(), func(state *lockstate.State) { state.AddLease(shellLease(lockstate.Self())) }, false)
	if err := os.RemoveAll(s.dir.Path); err != nil {
		t.Fatal(err)
	}
	// As when another project asks for a port before the supervisor has noticed the deletion.
	if s.tryShutDown(t.Context(), shutdownUnused, 0) {
		t.Fatal("it shut down although a shell has a lease")
	}
	if s.isClosing.Load() {
		t.Error("it refuses new clients")
	}
}

func TestStore_KeepsRecordOfAnotherSupervisorInNewState(t *testing.T) {
	s := newElectedSupervisor(t)
	s.saveState(t.Context(), func(state *lockstate.State) { state.AddLease(shellLease(lockstate.Self())) }, false)
	if err := os.RemoveAll(s.dir.Path); err != nil {
		t.Fatal(err)
	}
	process, ok := lockstate.FindProcess(os.Getppid())
	if !ok {
		t.Fatal("no parent process")
	}
	if _, err := lockstate.Open(s.options.Config); err != nil {
		t.Fatal(err)
	}
	_, err := s.dir.Update(t.Context(), func(tx *lockstate.Tx) error {
		tx.Supervisor = &lockstate.Supervisor{Process: process, Run: "bbbbbbbb"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	state, err := s.dir.Read()
	if err != nil {
		t.Fatal(err)
	}
	if state.Supervisor == nil || state.Supervisor.Run != "bbbbbbbb" {
		t.Errorf("the supervisor's record is now %+v", state.Supervisor)
	}
	if len(state.Leases) != 1 {
		t.Errorf("the leases are %v", state.Leases)
	}
}

func TestStore_RefreshReadsOnlyAfterAChange(t *testing.T) {
	s := newElectedSupervisor(t)
	refresh := func() lockstate.State {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.store.refresh(ctx); err != nil {
			t.Error(err)
		}
		return s.store.state()
	}
	other, err := lockstate.Open(s.options.Config)
	if err != nil {
		t.Fatal(err)
	}
	change := func(change func(*lockstate.Tx)) {
		t.Helper()
		if _, err := other.Update(t.Context(), func(tx *lockstate.Tx) error { change(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}

	change(func(tx *lockstate.Tx) { tx.AddLease(shellLease(lockstate.Self())) })
	if state := refresh(); len(state.Leases) != 1 {
		t.Errorf("after another process has added a lease: %v", state.Leases)
	}
	change(func(*lockstate.Tx) { refresh() }) // would wait for the lock, which is held, if it read anything

	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	process, ok := lockstate.FindProcess(sleeper.Process.Pid)
	if !ok {
		t.Fatal("no process")
	}
	change(func(tx *lockstate.Tx) { tx.AddLease(shellLease(process)) })
	if state := refresh(); len(state.Leases) != 2 {
		t.Errorf("after another lease: %v", state.Leases)
	}
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	refresh()
	if state, err := other.Read(); err != nil || len(state.Leases) != 1 {
		t.Errorf("after the end of the lease's process the file has %v, %v", state.Leases, err)
	}

	s.store.add(func(state *lockstate.State) { state.RemoveLease(lockstate.ShellLease, lockstate.Self()) })
	refresh()
	if state, err := other.Read(); err != nil || len(state.Leases) != 0 {
		t.Errorf("after what was to be written the file has %v, %v", state.Leases, err)
	}
}
