package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/localport-sh/localport/forwarder/api"
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

// The supervisor that answers has been superseded, and does not know it yet: the elected one is asked to end after it.
func TestShutDown_EndsTheElectedSupervisorAfterASupersededOne(t *testing.T) {
	for _, kind := range []string{"STATE_HOME", "RUNTIME_DIR"} {
		t.Setenv("XDG_"+kind, t.TempDir())
	}
	dir, err := lockstate.Open("/project/.localport.toml")
	if err != nil {
		t.Fatal(err)
	}
	var election *lockstate.Election
	if _, err := dir.Update(t.Context(), func(tx *lockstate.Tx) error {
		election, err = tx.Elect()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	socket, err := dir.SocketPath()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Status{Config: dir.Config})
	})
	mux.HandleFunc("/v1/end", func(http.ResponseWriter, *http.Request) {
		if ended++; ended == 2 { // the first is not the elected one
			_ = election.Resign()
		}
	})
	server := &http.Server{Handler: mux}
	servedCh := make(chan struct{})
	go func() { defer close(servedCh); _ = server.Serve(listener) }()
	p := commandProject{&client.Project{Dir: dir}}
	p.Config = dir.Config
	if err := p.shutDownSupervisor(t.Context(), io.Discard); err != nil {
		t.Error(err)
	}
	server.Close()
	<-servedCh
	if ended != 2 {
		t.Errorf("%d supervisors were asked to end, want 2", ended)
	}
}
