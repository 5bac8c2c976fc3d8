package main

import (
	"encoding/json"
	"testing"
)

// document is what these tests read of `status --json`, by the names that programs know.
type document struct {
	State    string            `json:"state"`
	Services []serviceDocument `json:"services"`
	Leases   []struct {
		Kind string `json:"kind"`
		PID  int    `json:"pid"`
	} `json:"leases"`
	Supervisor *struct {
		PID     int    `json:"pid"`
		Version string `json:"version"`
		Keeper  int    `json:"keeper"`
	} `json:"supervisor"`
	Pending string `json:"pending"`
}

type serviceDocument struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Ending    bool   `json:"ending"`
	Address   string `json:"address"`
	Held      bool   `json:"held"`
	LastError string `json:"last_error"`
}

// document is the status of a project, which need not run.
func (w *testEnv) document(root string) document {
	w.t.Helper()
	return parseDocument(w.t, w.mustRun(root, "status", "--json"))
}

func parseDocument(t testing.TB, text string) document {
	t.Helper()
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("status --json printed %q: %v", text, err)
	}
	return d
}

// service is one service's part; the zero value where there is none by that name.
func (d document) service(name string) serviceDocument {
	for _, svc := range d.Services {
		if svc.Name == name {
			return svc
		}
	}
	return serviceDocument{}
}

// kinds are the leases' kinds.
func (d document) kinds() (kinds []string) {
	for _, lease := range d.Leases {
		kinds = append(kinds, lease.Kind)
	}
	return kinds
}
