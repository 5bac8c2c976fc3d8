package supervisor

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
)

// elected is a supervisor that has won its election and does nothing yet.
func elected(t *testing.T) *Supervisor {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, home)
	}
	s, err := open(Options{
		Config: filepath.Join(home, ".localport.toml"), Run: "aaaaaaaa", Level: new(slog.LevelVar), Say: func(client.Word) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.logFile.Close(); s.news.notifier.Close() })
	if _, err := s.elect(t.Context()); err != nil || s.election == nil {
		t.Fatalf("elected %v, %v", s.election, err)
	}
	t.Cleanup(func() { _ = s.election.Resign() })
	return s
}

func shellLease(p lockstate.Process) lockstate.Lease {
	return lockstate.Lease{Kind: lockstate.ShellLease, Process: p}
}

func TestSupervisor_StaysForTheLeasesOfAStateThatWasDeleted(t *testing.T) {
	s := elected(t)
	s.save(func(state *lockstate.State) { state.Hold(shellLease(lockstate.Self())) }, false)
	if err := os.RemoveAll(s.dir.Path); err != nil {
		t.Fatal(err)
	}
	// As when another project asks for a port before it was noticed.
	if s.retire(reasonUnused, 0) {
		t.Fatal("it ended while a shell is inside")
	}
	if s.closing.Load() {
		t.Error("no newcomer is answered any more")
	}
}

func TestStore_LeavesTheRecordOfAnotherSupervisorInANewState(t *testing.T) {
	s := elected(t)
	s.save(func(state *lockstate.State) { state.Hold(shellLease(lockstate.Self())) }, false)
	if err := os.RemoveAll(s.dir.Path); err != nil {
		t.Fatal(err)
	}
	process, ok := lockstate.FindProcess(os.Getppid())
	if !ok {
		t.Fatal("no parent process")
	}
	if _, err := lockstate.Open(s.o.Config); err != nil {
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
