package supervisor

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/handoff"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// At a shutdown of the machine, a supervisor gets its SIGTERM at any moment of its start. Its predecessor got one too, so that the
// project is to stop: the keeper must not start a third supervisor.
func TestRun_SignalDuringTheStartStopsTheProject(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, home)
	}
	config := filepath.Join(home, project.ConfigName)
	if err := os.WriteFile(config, []byte(autoPortConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PASSWORD", "hunter22")
	files, err := project.ReadFiles(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := (trust.Store{Dir: filepath.Join(home, "localport", "trust")}).Allow(files); err != nil {
		t.Fatal(err)
	}
	dir, err := lockstate.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	var election *lockstate.Election
	_, err = dir.Update(t.Context(), func(tx *lockstate.Tx) error {
		tx.AddLease(lockstate.Lease{Kind: lockstate.StartLease})
		election, err = tx.Elect()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = election.Resign() })
	held, err := election.CopyFiles()
	if err != nil {
		t.Fatal(err)
	}
	state, err := json.Marshal(handoffState{Terminated: true})
	if err != nil {
		t.Fatal(err)
	}

	ctx, terminate := context.WithCancel(t.Context())
	link := startHandoffClient(t).ensureKeeper()
	t.Cleanup(func() { // it waits for the end of the process that ran the supervisor, which is this one
		_ = syscall.Kill(link.PID(), syscall.SIGKILL)
		<-link.Done()
	})
	var readiness client.Readiness
	err = Run(ctx, Options{
		Config: config, RunID: "bbbbbbbb", LogLevel: new(slog.LevelVar), OnStartResult: func(r client.Readiness) { readiness = r },
		Inherit: func() (*handoff.KeeperLink, *handoff.Inheritance, error) {
			terminate()
			return link, &handoff.Inheritance{Files: map[string][]*os.File{electionHoldName: held}, State: state}, nil
		},
	})
	if err != nil || readiness.Outcome != client.OutcomeReady {
		t.Errorf("started with %+v, ended with %v", readiness, err)
	}
	if state := dir.ReadOrZero(); !state.Down || state.Supervisor != nil || state.Failure != "" {
		t.Errorf("down: %v, supervisor %+v, failure %q", state.Down, state.Supervisor, state.Failure)
	}
}
