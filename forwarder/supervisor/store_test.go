package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
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
	election := s.election
	t.Cleanup(func() { _ = election.Resign() })
	return s
}

// The lock file is deleted during an election, and cannot be made again on a full disk.
func TestSupervisor_IsNotElectedIfTheElectionCouldNotBeRepeated(t *testing.T) {
	s := newElectedSupervisor(t)
	if err := s.election.Resign(); err != nil {
		t.Fatal(err)
	}
	isFull := false
	s.dir.BeforeCall = func(call lockstate.Call, name string) error {
		switch {
		case call == lockstate.CallFlock && name == "election":
			isFull = true
			return os.Remove(filepath.Join(s.dir.Path, "lock"))
		case isFull && (call == lockstate.CallLock || call == lockstate.CallMakeDir):
			return syscall.ENOSPC
		}
		return nil
	}
	s.store.dir = s.dir
	if _, err := s.elect(t.Context()); err == nil {
		held, heldErr := s.election.IsHeld()
		t.Errorf("no error, and the election is held: %v, %v", held, heldErr)
	}
	if s.election != nil {
		t.Error("it has an election")
	}
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

// The state file is replaced, and cannot be written: what only the cache has must survive any number of attempts.
func TestStore_KeepsLeasesWhileAReplacedFileCannotBeWritten(t *testing.T) {
	for name, replace := range map[string]func(state *lockstate.State){
		"by an older copy": func(state *lockstate.State) { state.Leases, state.Line = nil, state.Line-1 },
		"by another state": func(state *lockstate.State) { state.Leases, state.ID, state.Line = nil, "other", state.Line+10 },
	} {
		for _, lacksLock := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, without lock file %v", name, lacksLock), func(t *testing.T) {
				s := newElectedSupervisor(t)
				s.saveState(t.Context(), func(state *lockstate.State) { state.AddLease(shellLease(s.self)) }, true)
				state, err := s.dir.Read()
				if err != nil {
					t.Fatal(err)
				}
				replace(&state)
				data, err := json.Marshal(state)
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(s.dir.Path, "state.json")
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				if lacksLock {
					os.Remove(filepath.Join(s.dir.Path, "lock"))
				}
				s.dir.BeforeCall = func(call lockstate.Call, name string) error {
					if call == lockstate.CallCreate || lacksLock && (call == lockstate.CallMakeDir || call == lockstate.CallLock && name == "lock") {
						return syscall.EROFS
					}
					return nil
				}
				for range 3 {
					if s.store.sync(t.Context()) == nil {
						t.Error("the state was written")
					}
					if leases := s.store.state().Leases; len(leases) != 1 {
						t.Fatalf("the cache has %v", leases)
					}
				}
				s.dir.BeforeCall = nil
				if err := s.store.sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				if state, err := s.dir.Read(); err != nil || len(state.Leases) != 1 {
					t.Errorf("the file has %v, %v", state.Leases, err)
				}
			})
		}
	}
}

// An older copy is from before the project was started again. Another state may have been made by a "stop".
func TestStore_OlderCopyDoesNotSayThatTheProjectIsDown(t *testing.T) {
	for id, want := range map[string]bool{"": false, "other": true} {
		s := newElectedSupervisor(t)
		s.saveState(t.Context(), func(state *lockstate.State) { state.AddLease(shellLease(s.self)) }, true)
		state, err := s.dir.Read()
		if err != nil {
			t.Fatal(err)
		}
		state.Down, state.DownFile, state.Line = true, false, state.Line-1
		state.ID = cmp.Or(id, state.ID)
		data, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir.Path, "state.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.store.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.saveState(t.Context(), func(*lockstate.State) {}, true)
		if state, err := s.dir.Read(); err != nil || state.Down != want || len(state.Leases) != 1 {
			t.Errorf("with id %q: down %v, leases %v, %v", id, state.Down, state.Leases, err)
		}
	}
}

// A backup is restored, and an event is announced to the prompts before the supervisor has looked at the file: its number is then no lower than
// the one that the supervisor knows.
func TestStore_RestoresLeasesOfAnOlderCopyWhoseLineHasChanged(t *testing.T) {
	s := newElectedSupervisor(t)
	s.saveState(t.Context(), noChange, true)
	path := filepath.Join(s.dir.Path, "state.json")
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.saveState(t.Context(), func(state *lockstate.State) { state.AddLease(shellLease(lockstate.Self())) }, true)
	before := s.dir.PromptLine()
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.dir.Update(t.Context(), func(tx *lockstate.Tx) error { tx.Bump(); return nil }); err != nil {
		t.Fatal(err)
	}
	if line := s.dir.PromptLine(); line == before {
		t.Errorf("prompts see no change: the line is still %q", line)
	}
	if err := s.store.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := s.dir.Read(); err != nil || len(state.Leases) != 1 || state.IsOlderCopy {
		t.Errorf("leases %v, older copy %v, %v", state.Leases, state.IsOlderCopy, err)
	}
}

// Another program holds the lock of the state file for long. A client that joins by socket meanwhile is told that the project is up.
func TestSupervisor_UnusedOneStaysUpForAClientThatJoinedWhileTheStateWasLocked(t *testing.T) {
	s := newElectedSupervisor(t)
	s.active.Store(&activeConfig{project: &project.Project{}})
	s.dir.BeforeCall = func(lockstate.Call, string) error {
		s.store.add(func(state *lockstate.State) { state.AddLease(shellLease(s.self)) })
		return syscall.EIO
	}
	if s.tryShutDown(t.Context(), shutdownUnused, maxShutdownTries) || s.isClosing.Load() {
		t.Error("it shut down although a shell has a lease")
	}
}

// A supervisor that is killed before it has a keeper, or while it stops, is not replaced. The next one of any project removes its control
// socket.
// A changed config is part of the view before its ports are open.
func TestSupervisor_JoinWaitsForPortsThatAreBeingOpened(t *testing.T) {
	s := newElectedSupervisor(t)
	s.active.Store(newActiveConfig(&loadedConfig{files: &project.Files{}, project: &project.Project{}}))
	if err := s.beginOperation(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.isOpening.Store(true)
	joinedCh := make(chan error, 1)
	go func() {
		_, err := s.Join(t.Context(), api.JoinRequest{})
		joinedCh <- err
	}()
	select {
	case err := <-joinedCh:
		s.endOperation()
		t.Fatalf("it has joined (error: %v)", err)
	case <-time.After(openingTimeout / 10):
	}
	s.isOpening.Store(false)
	s.endOperation()
	if err := <-joinedCh; err != nil {
		t.Error(err)
	}
}

func TestSupervisor_RemovesTheSocketOfAKilledOne(t *testing.T) {
	for name, isStopping := range map[string]bool{"starting": false, "stopping": true} {
		t.Run(name, func(t *testing.T) { checkSocketOfAKilledOneIsRemoved(t, isStopping) })
	}
}

func checkSocketOfAKilledOneIsRemoved(t *testing.T, isStopping bool) {
	t.Helper()
	s := newElectedSupervisor(t)
	other, err := lockstate.Open(filepath.Join(t.TempDir(), ".localport.toml"))
	if err != nil {
		t.Fatal(err)
	}
	socket, err := other.SocketPath()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	t.Cleanup(func() { listener.Close(); os.Remove(socket) })
	_, err = other.Update(t.Context(), func(tx *lockstate.Tx) error {
		if tx.Down = isStopping; !isStopping {
			tx.Supervisor = &lockstate.Supervisor{Run: "cccccccc", Socket: socket}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, isListening := range []bool{true, false} {
		abandoned, err := lockstate.CreateRunDir("cccccccc")
		if err != nil {
			t.Fatal(err)
		}
		abandoned.Release()
		if !isListening {
			listener.Close()
		}
		s.removeAbandoned()
		if _, err := os.Lstat(socket); (err == nil) != isListening {
			t.Errorf("a process listens: %v; the socket: %v", isListening, err)
		}
	}
}
