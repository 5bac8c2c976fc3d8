package client

import (
	"testing"
	"time"

	"github.com/localport-sh/localport/lockstate"
)

// A supervisor that could not write the release of a lease writes it later, for leases that are older. The file may have such a lease of a
// shell that enters again, if an older copy of it was restored.
func TestJoiner_ALeaseOfAShellThatEntersIsNewerThanItsRelease(t *testing.T) {
	for _, name := range []string{"XDG_STATE_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, t.TempDir())
	}
	dir, err := lockstate.Open("/project/.localport.toml")
	if err != nil {
		t.Fatal(err)
	}
	var election *lockstate.Election
	shell := lockstate.Lease{Kind: lockstate.ShellLease, Process: lockstate.Self(), Since: time.Now().Add(-time.Hour)}
	if _, err := dir.Update(t.Context(), func(tx *lockstate.Tx) error {
		tx.AddLease(shell)
		election, err = tx.Elect()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = election.Resign() }()
	for _, isEntering := range []bool{false, true} {
		releasedAt := time.Now()
		lease := shell
		lease.Since = releasedAt.Add(time.Nanosecond)
		j := &joiner{Project: &Project{Dir: dir}, JoinOptions: JoinOptions{Lease: lease, RestartStopped: isEntering, Allowed: true}}
		if running, err := j.claimLease(t.Context()); !running || err != nil {
			t.Fatal(running, err)
		}
		st := dir.ReadOrZero()
		st.RemoveLeaseAsOf(shell, releasedAt)
		if hasLease := len(st.Leases) == 1; hasLease != isEntering {
			t.Errorf("entering %v: the leases are %v after the release of an older one", isEntering, st.Leases)
		}
	}
}
