package main

import (
	"encoding/json"
	"testing"
)

// document is the part of `status --json` that these tests read. Its types are not those of package api, so that a renamed key fails.
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

// document returns the status of a project, running or stopped.
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

// service returns the status of a service; the zero value if there is none of that name.
func (d document) service(name string) serviceDocument {
	for _, svc := range d.Services {
		if svc.Name == name {
			return svc
		}
	}
	return serviceDocument{}
}

// kinds returns the kinds of the leases.
func (d document) kinds() (kinds []string) {
	for _, lease := range d.Leases {
		kinds = append(kinds, lease.Kind)
	}
	return kinds
}
