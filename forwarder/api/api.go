// Package api is what a project's supervisor and its clients tell each other: JSON in HTTP, over a unix socket that only
// its user can reach.
package api

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// Status is a project as `status --json` prints it. It is stable: fields are added, never changed or removed.
type Status struct {
	Project    string            `json:"project"`           // the root
	Config     string            `json:"config"`            // the config file
	State      string            `json:"state"`             // "running" or "stopped"
	Services   []ServiceStatus   `json:"services"`          // in the order of the file
	Leases     []Lease           `json:"leases"`            // that count
	Supervisor *SupervisorStatus `json:"supervisor"`        // null where none runs
	Pending    string            `json:"pending,omitempty"` // a change that waits to be allowed or mended
	Failure    string            `json:"failure,omitempty"` // why the last start failed, where none runs
	Warnings   []string          `json:"warnings,omitempty"`
	Clusters   []ClusterStatus   `json:"clusters,omitempty"` // that services lead into, one for each context
}

// The kinds of lease.
const (
	ShellLease = "shell"
	ExecLease  = "exec"
	StartLease = "start"
)

// Lease is a claim that keeps the supervisor alive.
type Lease struct {
	Kind  string    `json:"kind"`
	PID   int       `json:"pid"`   // 0: it has no process and lasts until stop, deny or reboot
	Start uint64    `json:"start"` // when the process started, as lockstate.Process has it
	Dir   string    `json:"dir,omitempty"`
	Since time.Time `json:"since"`
}

// ClusterStatus is how a Kubernetes cluster is doing, as far as is known from the services that lead there.
type ClusterStatus struct {
	Context string `json:"context"` // empty: that of a process in a pod
	Server  string `json:"server"`  // the API server's URL
	Trouble string `json:"trouble"` // what is wrong with it now; empty: nothing that is known
	Hint    string `json:"hint,omitempty"`
	// CredentialsExpire is when the credential in use ends; null: never, or nobody knows. One that is renewed by itself
	// is a login helper's.
	CredentialsExpire  *time.Time `json:"credentials_expire"`
	CredentialsRenewed bool       `json:"credentials_renewed"`
}

// The values of Status.State.
const (
	Running = "running"
	Down    = "stopped"
)

// SupervisorStatus is the running supervisor.
type SupervisorStatus struct {
	PID     int       `json:"pid"`
	Run     string    `json:"run"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	Socket  string    `json:"socket"`
	Log     string    `json:"log"`
	// Memory is its resident memory in bytes; 0 where the system does not tell.
	Memory uint64 `json:"memory,omitempty"`
	// Keeper is the pid of the process that keeps copies of its listeners; 0 where there is none at the moment.
	Keeper int `json:"keeper,omitempty"`
}

// ServiceStatus is one forward.
type ServiceStatus struct {
	Name        string          `json:"name"`
	State       forwarder.State `json:"state"`
	Technology  string          `json:"technology"`
	Address     string          `json:"address"` // the first local address, HOST:PORT
	Port        int             `json:"port"`
	Addresses   []string        `json:"addresses"`         // none for a reverse forward, which nothing listens for here
	Reverse     bool            `json:"reverse,omitempty"` // it is the far side that listens
	Target      string          `json:"target"`
	Description string          `json:"description,omitempty"`
	Tags        []string        `json:"tags"`
	Enabled     bool            `json:"enabled"`
	Held        bool            `json:"held"` // the supervisor has the port
	// Ending: the service is stopped and its port closed, but processes of its tunnel have not ended yet.
	Ending      bool        `json:"ending,omitempty"`
	Health      Health      `json:"health"`
	Since       time.Time   `json:"since"`      // of the state
	UpSince     *time.Time  `json:"up_since"`   // of the tunnel; null while there is none
	Restarts    int         `json:"restarts"`   // tunnels opened after the first
	LastError   string      `json:"last_error"` // the last thing that went wrong; empty once well again
	Hint        string      `json:"hint,omitempty"`
	Connections Connections `json:"connections"`
	Log         string      `json:"log"`
	// RestartReasons counts the restarts by what caused them, in the supervisor's few words for it.
	RestartReasons map[string]uint64 `json:"restart_reasons,omitempty"`
}

// Declared is a service as the config has it: what there is to show of one that does not run.
func Declared(svc project.Service) ServiceStatus {
	status := ServiceStatus{
		Name: svc.Name, State: forwarder.Stopped, Technology: svc.Technology, Enabled: svc.Enabled,
		Description: svc.Description, Tags: append([]string{}, svc.Tags...), Health: Health{Check: svc.HealthCheck.Type},
	}
	status.Reverse = svc.Reverse
	for _, addr := range svc.ListenAddresses() {
		status.Addresses = append(status.Addresses, addr.String())
		status.Port = int(addr.Port())
	}
	if len(status.Addresses) > 0 {
		status.Address = status.Addresses[0]
	}
	return status
}

// Health is the last answer of the probe.
type Health struct {
	Check   string     `json:"check"` // the health check's type
	Checked *time.Time `json:"checked"`
	// Latency is how long the last check took, in seconds.
	Latency float64 `json:"latency"`
	// Latencies is how long all checks took so far.
	Latencies *Histogram `json:"latencies,omitempty"`
	// Results counts the checks so far by what came of them, in the supervisor's few words for it.
	Results map[string]uint64 `json:"results,omitempty"`
}

// Histogram is how often durations of each length were seen.
type Histogram struct {
	Bounds []float64 `json:"bounds"` // the longest duration that each count takes in, in seconds, ascending
	Counts []uint64  `json:"counts"` // as many as bounds, and one for all that is longer
	Sum    float64   `json:"sum"`    // of all durations, in seconds
}

// Connections counts what went through a service's relay. Times are in seconds.
type Connections struct {
	Open     int     `json:"open"`
	Waiting  int     `json:"waiting"`
	Total    uint64  `json:"total"`
	Waited   uint64  `json:"waited"`
	WaitTime float64 `json:"wait_time"`
	Replays  uint64  `json:"replays"`
	BytesIn  uint64  `json:"bytes_in"`  // from clients
	BytesOut uint64  `json:"bytes_out"` // to clients
	// NoRoom is why no further clients can be taken in now; empty: they can.
	NoRoom   string `json:"no_room,omitempty"`
	Unseated int    `json:"unseated,omitempty"` // clients that wait to be taken in
	Resets   uint64 `json:"resets,omitempty"`   // clients that were reset because they could not be taken in for connect_timeout
}

// View is what a client needs to set its environment: the services' addresses, and [env] as the supervisor has it.
// It comes from the supervisor and not from the file, because while a changed file waits to be allowed the old text
// is what runs.
type View struct {
	Config   string             `json:"config,omitempty"` // the config file of the supervisor's project; empty from an older one
	Digest   string             `json:"digest"`           // of the files that the supervisor runs
	Services []ServiceView      `json:"services"`
	Env      []project.EnvEntry `json:"env"`
	DotEnv   map[string]string  `json:"dotenv"` // of .env, what [env] may refer to
	// Line is the number of the prompt's line that this view is as new as: a line with a higher number announces a newer view. 0
	// from a supervisor that does not tell.
	Line uint64 `json:"line,omitempty"`
}

// ServiceView is a service as a client's environment sees it.
type ServiceView struct {
	Name   string          `json:"name"`
	State  forwarder.State `json:"state"`
	Host   string          `json:"host"` // numeric
	Port   int             `json:"port"`
	Held   bool            `json:"held"`
	Reason string          `json:"reason,omitempty"`
}

// Session is what a newcomer's environment may replace in the supervisor's, where the supervisor's own has stopped
// working: an agent's socket that is gone, a PATH without the tool. It is kept in memory only.
type Session struct {
	SSHAuthSock string `json:"ssh_auth_sock"`
	Kubeconfig  string `json:"kubeconfig"`
	Path        string `json:"path"`
	// Level is what the supervisor is to log from now on; empty: as before.
	Level string `json:"level,omitempty"`
	// Lease is the newcomer's where it could not be written to the state file: the supervisor counts it, and writes it when
	// that is possible again. Null where it was written.
	Lease *Lease `json:"lease,omitempty"`
}

// LeaveRequest has the leases read again.
type LeaveRequest struct {
	// Lease is the one that is released. Its holder has released it in the state file too where that could be written, but what is
	// written there may be lost.
	Lease *Lease `json:"lease,omitempty"`
	// At is when. A lease that the same process has taken since then stays. Zero: whenever it was taken.
	At time.Time `json:"at,omitzero"`
}

// Action is what a user asks of services.
type Action string

// The actions.
const (
	Start   Action = "start"
	Stop    Action = "stop"
	Restart Action = "restart"
)

// ActRequest asks for an action on services.
type ActRequest struct {
	Action Action   `json:"action"`
	Names  []string `json:"names"`
	// Spawned: the caller has brought this supervisor up just now. A service that has failed since is not tried a second time.
	Spawned bool `json:"spawned,omitempty"`
}

// LoginRequest hands a login over that the user went through in the foreground.
type LoginRequest struct {
	Names      []string `json:"names"`      // the services that it is for
	Credential []byte   `json:"credential"` // as the login helper printed it; empty: the login left it where the services find it
	// Ask is the socket of the caller's at which the user answers what is asked meanwhile; empty: nobody answers.
	Ask string `json:"ask,omitempty"`
}

// YieldRequest asks for these addresses.
type YieldRequest struct {
	Addresses []string `json:"addresses"`
}

// YieldResponse says whether they were given up.
type YieldResponse struct {
	Yielded bool `json:"yielded"`
}

// Reload is the outcome of reading the files again.
type Reload struct {
	Changed bool     `json:"changed"`
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Updated []string `json:"updated,omitempty"`
}

// Summary is the outcome in a few words.
func (r Reload) Summary() string {
	if !r.Changed {
		return "nothing changed"
	}
	var parts []string
	for _, part := range []struct {
		what  string
		names []string
	}{{"added", r.Added}, {"removed", r.Removed}, {"updated", r.Updated}} {
		if len(part.names) > 0 {
			parts = append(parts, part.what+" "+strings.Join(part.names, ", "))
		}
	}
	if parts == nil {
		return "no service changed"
	}
	return strings.Join(parts, "; ")
}

// Replacement is what is to take over from a supervisor.
type Replacement struct {
	Exe     string `json:"exe"`     // the program; empty: the same
	Version string `json:"version"` // of that program
}

// HandOver is the request of a supervisor that has lost its election to hand its listeners over to the one that was elected. After
// the answer "switching protocols" they go over the same connection (forwarder/handoff.Offer); then comes a HandOverResponse. The
// connection ends with the first of the two supervisors.
type HandOver struct {
	Run string `json:"run"` // of who hands over
}

// HandOverResponse says what was taken.
type HandOverResponse struct {
	Taken []string `json:"taken"` // by the names that the files were offered under
}

// Failure is the answer to a request that was refused.
type Failure struct {
	Error string `json:"error"`
}

// RequestHeader carries the id of a request, which ties what a command says to what the supervisor logs.
const RequestHeader = "X-Request-Id"

// MaxWatchers is how many clients can watch a supervisor at the same time: half of the file descriptors that it keeps for its
// clients (forwarder/filelimit), so that commands and prompts get through however many watch.
const MaxWatchers = 16

// ErrTooManyWatchers is the answer to a client that would be one more.
var ErrTooManyWatchers = fmt.Errorf("too many clients watch the project (%d)", MaxWatchers)

// ErrEnding is what a supervisor answers that is ending, or has handed over to another: the client is to call again.
var ErrEnding = errors.New("the supervisor is ending")
