package main

import (
	"testing"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
)

// A stop that could not be recorded is recorded once the supervisor has ended, unless somebody has started the project meanwhile.
func TestRecordStop_LeavesAProjectThatWasStartedAgain(t *testing.T) {
	for _, kind := range []string{"STATE_HOME", "RUNTIME_DIR"} {
		t.Setenv("XDG_"+kind, t.TempDir())
	}
	dir, err := lockstate.Open("/project/.localport.toml")
	if err != nil {
		t.Fatal(err)
	}
	p := commandProject{&client.Project{Dir: dir}}
	var election *lockstate.Election
	if _, err := dir.Update(t.Context(), func(tx *lockstate.Tx) error {
		tx.AddLease(lockstate.Lease{Kind: lockstate.StartLease})
		election, err = tx.Elect()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.recordStop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if st := dir.ReadOrZero(); st.Down || len(st.Leases) != 1 {
		t.Errorf("while another supervisor runs: down %v, leases %v", st.Down, st.Leases)
	}
	if err := election.Resign(); err != nil {
		t.Fatal(err)
	}
	if err := p.recordStop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if st := dir.ReadOrZero(); !st.Down || len(st.Leases) != 0 {
		t.Errorf("while none runs: down %v, leases %v", st.Down, st.Leases)
	}
}
