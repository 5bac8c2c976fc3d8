package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
)

// status has the fields of `localport status --json` that the driver reads.
type status struct {
	Project    string          `json:"project"`
	State      string          `json:"state"`
	Services   []serviceStatus `json:"services"`
	Leases     []lease         `json:"leases"`
	Supervisor *struct {
		PID    int    `json:"pid"`
		Socket string `json:"socket"`
		Log    string `json:"log"`
		Keeper int    `json:"keeper"`
	} `json:"supervisor"`
	Pending string `json:"pending"`
	Failure string `json:"failure"`
}

type serviceStatus struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Address   string `json:"address"`
	Port      int    `json:"port"`
	Held      bool   `json:"held"`
	LastError string `json:"last_error"`
	Hint      string `json:"hint"`
	Log       string `json:"log"`
}

type lease struct {
	Kind string `json:"kind"`
	PID  int    `json:"pid"`
}

func (l lease) String() string { return fmt.Sprintf("%s %d", l.Kind, l.PID) }

const stateRunning = "running"

func parseStatus(out string) (status, error) {
	var s status
	err := json.Unmarshal([]byte(out), &s)
	return s, err
}

func (s status) service(name string) (serviceStatus, bool) {
	at := slices.IndexFunc(s.Services, func(svc serviceStatus) bool { return svc.Name == name })
	if at < 0 {
		return serviceStatus{}, false
	}
	return s.Services[at], true
}
