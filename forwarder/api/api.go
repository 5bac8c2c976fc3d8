// Package api has the wire types of the control API: JSON over HTTP on a unix socket of the supervisor's user.
package api

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// Status is a project in the form that `status --json` prints. It is stable: fields are added, never changed or removed.
type Status struct {
	Project    string            `json:"project"`           // the root
	Config     string            `json:"config"`            // the config file
	State      string            `json:"state"`             // "running" or "stopped"
	Services   []ServiceStatus   `json:"services"`          // in the order of the file
	Leases     []Lease           `json:"leases"`            // only live ones
	Supervisor *SupervisorStatus `json:"supervisor"`        // null if none runs
	Pending    string            `json:"pending,omitempty"` // why changed files are not active
	Failure    string            `json:"failure,omitempty"` // why the last start failed, if no supervisor runs
	Warnings   []string          `json:"warnings,omitempty"`
	Clusters   []ClusterStatus   `json:"clusters,omitempty"` // that services connect to, one per context
	// Draining are earlier supervisors whose established connections are still open. Only "status" sets it, from the state file.
	Draining []Draining `json:"draining,omitempty"`
	// RecordedAt is set if the supervisor cannot be asked from here: then the services are those that it recorded at that time, with their
	// names, addresses and held ports only, in the state "unknown".
	RecordedAt *time.Time `json:"recorded_at,omitempty"`
}

// Draining is a supervisor that accepts no new clients, and runs until the established connections have ended.
type Draining struct {
	PID      int               `json:"pid"`
	Services []OpenConnections `json:"services"`
	Until    *time.Time        `json:"until"` // when it closes the connections that are left; null: no limit
}

// OpenConnections are the client connections of a service.
type OpenConnections struct {
	Name string `json:"name"`
	Open int    `json:"open"`
}

// The kinds of lease.
const (
	ShellLease   = "shell"
	ExecLease    = "exec"
	ProcessLease = "process"
	StartLease   = "start"
	// BorrowedLease is held by the supervisor of another project that shares services.
	BorrowedLease = "borrowed"
)

// Lease is a claim that keeps the supervisor alive.
type Lease struct {
	Kind      string    `json:"kind"`
	PID       int       `json:"pid"`   // 0: no process; lasts until stop, deny or reboot
	StartTime uint64    `json:"start"` // start time of the process, as in lockstate.Process
	Dir       string    `json:"dir,omitempty"`
	Since     time.Time `json:"since"`
	// PIDNamespace is the id of the PID namespace in which the process has this pid; 0 from an older client.
	PIDNamespace uint64 `json:"pid_ns,omitempty"`
	// NetNamespace is the id of the network namespace of whoever took the lease, Boot the boot id of its kernel.
	NetNamespace uint64 `json:"net_ns,omitempty"`
	Boot         string `json:"boot,omitempty"`
}

// ClusterStatus is the status of a Kubernetes cluster, as far as it is known from the services that connect to it.
type ClusterStatus struct {
	Context string `json:"context"` // empty for a process in a pod
	Server  string `json:"server"`  // the API server's URL
	Trouble string `json:"trouble"` // what is wrong with it now; empty if nothing is known to be
	Hint    string `json:"hint,omitempty"`
	// CredentialsExpire is when the current credential expires; null: never, or unknown. CredentialsRenewed is set if a login helper
	// renews it automatically.
	CredentialsExpire  *time.Time `json:"credentials_expire"`
	CredentialsRenewed bool       `json:"credentials_renewed"`
}

// The values of Status.State.
const (
	StateRunning = "running"
	StateStopped = "stopped"
)

// SupervisorStatus is the running supervisor.
type SupervisorStatus struct {
	PID     int       `json:"pid"`
	Run     string    `json:"run"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	Socket  string    `json:"socket"`
	Log     string    `json:"log"`
	// Memory is its resident memory in bytes; 0 if unknown.
	Memory uint64 `json:"memory,omitempty"`
	// Keeper is the keeper's pid; 0 if none runs at the moment.
	Keeper int `json:"keeper,omitempty"`
	// Built is when the supervisor's program was built, as its file tells; null if it is not known. Builds without a version differ in that
	// alone.
	Built *time.Time `json:"built,omitempty"`
	// EnvironmentRevision is higher after each change of the environment, or of the config that uses it: a client that watches compares its own
	// environment again. 0 from an older supervisor.
	EnvironmentRevision uint64 `json:"environment_revision,omitempty"`
	// LoggedIn are the services for which the user has logged in. LoginLoss is set if this supervisor was not replaced because of that.
	LoggedIn  []string        `json:"logged_in,omitempty"`
	LoginLoss *LoginLossError `json:"login_loss,omitempty"`
	// PredecessorDeath is how the previous supervisor died; null if it did not.
	PredecessorDeath *SupervisorDeath `json:"predecessor_death,omitempty"`
}

// SupervisorDeath is the death of a supervisor that neither was stopped nor handed over.
type SupervisorDeath struct {
	PID    int        `json:"pid"`
	Run    string     `json:"run"`
	At     *time.Time `json:"at"` // null if it is not known
	Reason string     `json:"reason"`
}

// ServiceStatus is the status of one service.
type ServiceStatus struct {
	Name        string          `json:"name"`
	State       forwarder.State `json:"state"`
	Technology  string          `json:"technology"`
	Address     string          `json:"address"` // the first local address, HOST:PORT
	Port        int             `json:"port"`
	Addresses   []string        `json:"addresses"`         // none for a reverse forward, which listens at the far side
	Reverse     bool            `json:"reverse,omitempty"` // the far side listens
	Target      string          `json:"target"`
	Description string          `json:"description,omitempty"`
	Tags        []string        `json:"tags"`
	Enabled     bool            `json:"enabled"`
	Optional    bool            `json:"optional,omitempty"`   // commands that do not name it do not wait for it
	DependsOn   []string        `json:"depends_on,omitempty"` // services that must be ready first
	Held        bool            `json:"held"`                 // the port is bound, by this project or by the one that shares it
	// Ending is set if the service is stopped but processes of its tunnel still run.
	Ending      bool            `json:"ending,omitempty"`
	Health      Health          `json:"health"`
	Since       time.Time       `json:"since"`      // of the state
	UpSince     *time.Time      `json:"up_since"`   // of the tunnel; null if there is none
	Restarts    int             `json:"restarts"`   // tunnels opened after the first
	LastError   string          `json:"last_error"` // empty once recovered
	Hint        string          `json:"hint,omitempty"`
	Progress    string          `json:"progress,omitempty"` // what an attempt to open the tunnel waits for, if that is known
	Connections ConnectionStats `json:"connections"`
	Log         string          `json:"log"`
	// LastRefusal is the last request of a client that the far end refused, where clients choose their destinations (SOCKS).
	LastRefusal *Refusal `json:"last_refusal,omitempty"`
	// RestartReasons counts the restarts by reason.
	RestartReasons map[string]uint64 `json:"restart_reasons,omitempty"`
	// Bridge is where containers can connect too; null if the config names no bridge or the port is closed.
	Bridge *BridgeStatus `json:"bridge,omitempty"`
	// Shared is set in the state "shared": who has the port, and how the service is there. Held is set then too.
	Shared *SharedService `json:"shared,omitempty"`
	// SharedWith are the projects, by their roots, that use the service of this project.
	SharedWith []string `json:"shared_with,omitempty"`
}

// IsReady reports whether a client can use the service.
func (s ServiceStatus) IsReady() bool { return effectiveState(s.State, s.Shared).IsReady() }

// IsSettled reports whether it is useless to wait for the service: it is ready, or only a person can change it.
func (s ServiceStatus) IsSettled() bool { return effectiveState(s.State, s.Shared).IsSettled() }

// EffectiveState is the state in which a client finds the service: if it is shared, that at the holder.
func (s ServiceStatus) EffectiveState() forwarder.State { return effectiveState(s.State, s.Shared) }

func effectiveState(state forwarder.State, shared *SharedService) forwarder.State {
	if state == forwarder.Shared && shared != nil {
		return shared.State
	}
	return state
}

// SharedService is a service of another project of the user, which has the port. Its tunnel leads to the same target.
type SharedService struct {
	Project string          `json:"project"` // the root of the project that has the port
	Service string          `json:"service"` // its name there
	State   forwarder.State `json:"state"`
}

// BridgeStatus is the additional address of a service, on a bridge of this machine, for its containers.
type BridgeStatus struct {
	Name    string `json:"name"`              // as in the config: "auto", or the bridge's name or address
	Address string `json:"address,omitempty"` // HOST:PORT; empty if nothing listens there
	Reason  string `json:"reason,omitempty"`  // why nothing does
	Hint    string `json:"hint,omitempty"`
}

// Refusal is a refused request of a client.
type Refusal struct {
	Reason string    `json:"reason"`
	Hint   string    `json:"hint,omitempty"`
	Time   time.Time `json:"time"`
}

// ConfiguredStatus is the status of a configured service that does not run.
func ConfiguredStatus(svc project.Service) ServiceStatus {
	status := ServiceStatus{
		Name: svc.Name, State: forwarder.Stopped, Technology: svc.Technology, Enabled: svc.Enabled,
		Optional: svc.Optional, DependsOn: svc.DependsOn,
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

// Health is the outcome of a service's health checks.
type Health struct {
	Check   string     `json:"check"` // the health check's type
	Checked *time.Time `json:"checked"`
	// Latency is the duration of the last check, in seconds.
	Latency float64 `json:"latency"`
	// Latencies are the durations of all checks.
	Latencies *Histogram `json:"latencies,omitempty"`
	// Results counts the checks by result.
	Results map[string]uint64 `json:"results,omitempty"`
}

// Histogram is a histogram of durations.
type Histogram struct {
	Bounds []float64 `json:"bounds"` // upper bounds in seconds, ascending
	Counts []uint64  `json:"counts"` // one per bound, and one for longer durations
	Sum    float64   `json:"sum"`    // of all durations, in seconds
}

// ConnectionStats are the statistics of a service's relay. Times are in seconds.
type ConnectionStats struct {
	Open     int     `json:"open"`
	Waiting  int     `json:"waiting"`
	Total    uint64  `json:"total"`
	Waited   uint64  `json:"waited"`
	WaitTime float64 `json:"wait_time"`
	Replays  uint64  `json:"replays"`
	BytesIn  uint64  `json:"bytes_in"`  // from clients
	BytesOut uint64  `json:"bytes_out"` // to clients
	// Shortage says why no further clients can be accepted now; empty if they can.
	Shortage     string `json:"shortage,omitempty"`
	ShortageHint string `json:"shortage_hint,omitempty"`
	Max          int    `json:"max_connections,omitempty"` // how many are served at once; 0: no limit
	Unserved     int    `json:"unserved,omitempty"`        // clients that wait for the end of the shortage
	Resets       uint64 `json:"resets,omitempty"`          // clients that were reset because the shortage did not end within connect_timeout
}

// ProjectView is what a client needs to set its environment: the services' addresses, and [env] of the active config. While a changed file
// waits to be allowed, that differs from the file.
type ProjectView struct {
	Config string `json:"config,omitempty"` // the config file of the project; empty from an older supervisor
	Digest string `json:"digest"`           // of the active files
	// Files has the digest of each active file, by its path relative to the root. Empty from an older supervisor.
	Files    map[string]string  `json:"files,omitempty"`
	Services []ServiceView      `json:"services"`
	Env      []project.EnvEntry `json:"env"`
	DotEnv   map[string]string  `json:"dotenv"` // the variables of .env that [env] refers to
	// Line is the number of the prompt's line when the view was made: a higher number announces a newer view. 0 from an older
	// supervisor.
	Line uint64 `json:"line,omitempty"`
}

// ServiceView is what a client's environment needs of a service.
type ServiceView struct {
	Name   string          `json:"name"`
	State  forwarder.State `json:"state"`
	Host   string          `json:"host"` // numeric
	Port   int             `json:"port"`
	Held   bool            `json:"held"`
	Reason string          `json:"reason,omitempty"`
	Bridge *BridgeStatus   `json:"bridge,omitempty"` // as in ServiceStatus
	Shared *SharedService  `json:"shared,omitempty"` // as in ServiceStatus
}

// EffectiveState is as in ServiceStatus.
func (s ServiceView) EffectiveState() forwarder.State { return effectiveState(s.State, s.Shared) }

// JoinRequest has the variables of a joining client that repair the supervisor's environment: the socket of an agent that answers and has keys,
// a PATH with further directories. It is kept in memory only.
type JoinRequest struct {
	SSHAuthSock string `json:"ssh_auth_sock"`
	Path        string `json:"path"`
	// Level is the supervisor's new log level; empty: unchanged.
	Level string `json:"level,omitempty"`
	// Line is the number of the prompts' line in the state file, if the client has raised it; 0: it has not.
	Line uint64 `json:"line,omitempty"`
	// Lease is the client's lease if it could not write that to the state file: the supervisor counts it and writes it as soon as
	// possible. Null if it was written.
	Lease *Lease `json:"lease,omitempty"`
	// Holder is the client's lease if PIDFD, a pidfd of its process, is sent with the request (SCM_RIGHTS): the supervisor is in another PID
	// namespace, where it may not see the process.
	Holder *Lease   `json:"holder,omitempty"`
	PIDFD  *os.File `json:"-"`
}

// File is the file that is sent with the request; nil if there is none.
func (r JoinRequest) File() *os.File { return r.PIDFD }

// SetFile sets the file that was received with the request.
func (r *JoinRequest) SetFile(file *os.File) { r.PIDFD = file }

// LeaveRequest releases a lease, and has the leases read again.
type LeaveRequest struct {
	// Lease is the released lease. Its holder has released it in the state file too if that could be written, but the file may be
	// lost. Null: none.
	Lease *Lease `json:"lease,omitempty"`
	// At is the time of the release. A lease that the same process took later stays. Zero: any time.
	At time.Time `json:"at,omitzero"`
}

// LeaveResponse says which client connections are open and what becomes of them, if the released lease was the last one.
type LeaveResponse struct {
	Services []OpenConnections `json:"services,omitempty"` // without those that have no connection
	Linger   float64           `json:"linger,omitempty"`   // seconds until the ports close
	Keep     float64           `json:"keep,omitempty"`     // seconds that the connections stay after that; 0: they end with the ports
	// KeepsPrograms is set if the connections of programs that were started in the project keep it running.
	KeepsPrograms bool `json:"keeps_programs,omitempty"`
}

// Action is what a user requests for services.
type Action string

// The actions.
const (
	ActionStart   Action = "start"
	ActionStop    Action = "stop"
	ActionRestart Action = "restart"
)

// ActionRequest asks for an action on services.
type ActionRequest struct {
	Action Action   `json:"action"`
	Names  []string `json:"names"`
	// Spawned is set if the caller has just spawned this supervisor. A service that has failed since is not tried a second time.
	Spawned bool `json:"spawned,omitempty"`
	// Environment is that of the user's shell, which becomes the supervisor's. Empty: unchanged.
	Environment Environment `json:"environment,omitempty"`
}

// Environment is the environment of a shell in the form of os.Environ, without what LocalPort has exported. It is a list of bytes because JSON
// strings hold only UTF-8. It may hold secrets, and is kept in memory only.
type Environment [][]byte

// The methods below remove what a peer in other namespaces must not send: its paths and programs are not the supervisor's.

// DropEnvironment removes the variables.
func (r *JoinRequest) DropEnvironment() { r.SSHAuthSock, r.Path, r.Level = "", "", "" }

// DropEnvironment removes the environment.
func (r *ActionRequest) DropEnvironment() { r.Environment = nil }

// DropEnvironment removes the environment.
func (r *LoginRequest) DropEnvironment() { r.Environment = nil }

// DropEnvironment removes the environment.
func (r *ReplaceRequest) DropEnvironment() { r.Environment = nil }

// CompareEnvironmentResponse says how a shell's environment differs from the supervisor's.
type CompareEnvironmentResponse struct {
	// Differing are the names of the variables with which services of the project would connect elsewhere, or as somebody else.
	Differing []string `json:"differing"`
}

// LoginRequest passes on the credential of a login in the foreground.
type LoginRequest struct {
	Names      []string `json:"names"`      // the services that it is for
	Credential []byte   `json:"credential"` // as the login helper printed it; empty if the helper stored it
	// Ask is the path of the client's socket where the user answers questions; empty: questions are not answered.
	Ask string `json:"ask,omitempty"`
	// Environment is as in ActionRequest.
	Environment Environment `json:"environment,omitempty"`
}

// YieldRequest asks a project without leases to give up addresses.
type YieldRequest struct {
	Addresses []string `json:"addresses"`
}

// YieldResponse says whether the addresses were given up.
type YieldResponse struct {
	Yielded bool `json:"yielded"`
}

// ReloadResult is the outcome of a reload.
type ReloadResult struct {
	Changed bool     `json:"changed"`
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Updated []string `json:"updated,omitempty"`
}

// Summary describes the outcome in a few words.
func (r ReloadResult) Summary() string {
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

// ReplaceRequest asks a supervisor to start its successor.
type ReplaceRequest struct {
	Exe     string `json:"exe"`     // the program; empty: the same
	Version string `json:"version"` // of that program
	// IsRequested is set if the user asked for it and waits for the result. A prompt does not wait for an upgrade that may take long.
	IsRequested bool `json:"requested,omitempty"`
	// Environment is as in ActionRequest: it becomes the successor's.
	Environment Environment `json:"environment,omitempty"`
}

// BorrowRequest asks the supervisor that has a port to share the service: its tunnel may lead to the same target. After the response 101
// Switching Protocols the borrower sends a line break, and the holder a BorrowUpdate per line, the first at once. The borrower gives the service
// back by closing the connection, and until then its process has a lease. Supervisors in other namespaces are refused, and so are all whose
// digest differs.
type BorrowRequest struct {
	Addresses []string `json:"addresses"` // all on which the service listens
	// Nonce is random. Digest is the HMAC-SHA256 of Nonce, the key being the SHA-256 of what decides where the tunnel leads, and as whom. No
	// secret can be learned from it that could not be guessed.
	Nonce   []byte `json:"nonce"`
	Digest  []byte `json:"digest"`
	Project string `json:"project"` // the borrower's root, for display
	Service string `json:"service"` // its name there
	PID     int    `json:"pid"`     // the borrower's supervisor, with its start time
	Start   uint64 `json:"start"`
	// KeepUp is set unless the borrower's service is on demand: the holder then keeps a tunnel up without clients too.
	KeepUp bool `json:"keep_up,omitempty"`
}

// BorrowUpdate is a line from the holder of a shared service. After one with IsOffer, which has nothing else, the listeners follow
// (forwarder/handoff.Offer). The borrower answers with a BorrowAnswer on a line when it has received them, the holder sends a BorrowUpdate with
// IsConfirmed if it still offers them, and the borrower answers again when it accepts clients on them. Then the connection ends. Without the
// confirmation, a borrower that was stopped meanwhile would use listeners that another one has been given.
type BorrowUpdate struct {
	Project   string          `json:"project,omitempty"` // the holder's root
	Service   string          `json:"service,omitempty"`
	State     forwarder.State `json:"state,omitempty"`
	LastError string          `json:"last_error,omitempty"`
	Hint      string          `json:"hint,omitempty"`
	Target    string          `json:"target,omitempty"`
	UpSince   time.Time       `json:"up_since,omitzero"`
	Checked   time.Time       `json:"checked,omitzero"`
	Latency   float64         `json:"latency,omitempty"` // of the last health check, in seconds
	IsOffer   bool            `json:"offer,omitempty"`

	IsConfirmed bool `json:"confirmed,omitempty"`
	// NextWithin is the number of seconds within which the holder sends another line, also if nothing has changed; 0: it does not say, as older
	// ones.
	NextWithin float64 `json:"next_within,omitempty"`
}

// BorrowAnswer is a line from the borrower about listeners that it was offered.
type BorrowAnswer struct {
	IsReceived bool `json:"received,omitempty"`
	IsTaken    bool `json:"taken,omitempty"` // it accepts clients on them
}

// NotSharedError is why a supervisor does not share a service that listens on an address of a BorrowRequest.
type NotSharedError struct {
	Project string `json:"project"` // the holder's root
	Service string `json:"service"` // that listens there
	Target  string `json:"target"`
}

func (e *NotSharedError) Error() string {
	return fmt.Sprintf("service %q of the project %s has the port: %s", e.Service, e.Project, e.Target)
}

// HandOverRequest is sent by a superseded supervisor that wants to hand its listeners over to the elected one. After the response 101
// Switching Protocols they are sent on the same connection (forwarder/handoff.Offer), and answered by a HandOverResponse. The
// connection stays open until one of the two supervisors ends.
type HandOverRequest struct {
	Run string `json:"run"` // of the superseded supervisor
}

// HandOverResponse says what was taken.
type HandOverResponse struct {
	Taken []string `json:"taken"` // names under which the files were offered
}

// ErrorResponse is the response to a refused request.
type ErrorResponse struct {
	Error string `json:"error"`
	// LoginLoss is set if that is why. Older supervisors send only the text.
	LoginLoss *LoginLossError `json:"login_loss,omitempty"`
	// IsForeign is set if the error is a *ForeignError, Namespaces are its Kinds. Older supervisors do not send those.
	IsForeign  bool     `json:"foreign,omitempty"`
	Namespaces []string `json:"namespaces,omitempty"`
	// NotShared is set if the error is that one.
	NotShared *NotSharedError `json:"not_shared,omitempty"`
}

// ForeignError is the error of a client in other namespaces that asks for what only processes in the supervisor's user, mount and PID namespaces
// may do: paths, programs and pids are others there.
type ForeignError struct {
	Kinds   []string // in which they differ: "user", "mount", "PID"
	PID     int      // the supervisor's, if root can enter its namespaces from here; else 0
	IsBelow bool     // its PID namespace is one below that of this process, such as that of a container on this machine
	Root    string   // the project's directory
}

func (e *ForeignError) Error() string {
	return "the supervisor runs in " + describeNamespaces(e.Kinds) + ": from here its services can be used, but not changed"
}

// describeNamespaces returns "another PID namespace", or "other mount and PID namespaces".
func describeNamespaces(kinds []string) string {
	switch last := len(kinds) - 1; {
	case last < 0:
		return "other namespaces"
	case last == 0:
		return "another " + kinds[0] + " namespace"
	default:
		return "other " + strings.Join(kinds[:last], ", ") + " and " + kinds[last] + " namespaces"
	}
}

// LoginLossText begins the text of a LoginLossError. Older programs report no more than the text.
const LoginLossText = "a new supervisor would need another login for "

// LoginLossError is why a supervisor was not replaced: services would need another login.
type LoginLossError struct {
	Services []string `json:"services"`
	Reason   string   `json:"reason"` // why one of them would
}

func (e *LoginLossError) Error() string {
	return fmt.Sprintf("%s%s (%s)", LoginLossText, strings.Join(e.Services, ", "), e.Reason)
}

// Remedy are the commands with which the user restarts the supervisor all the same.
func (e *LoginLossError) Remedy() string {
	names := strings.Join(e.Services, " ")
	return fmt.Sprintf("localport stop %[1]s; localport daemon restart; localport start %[1]s; localport login", names)
}

// RequestHeader is the header for the id of a request, which a command shows and the supervisor logs.
const RequestHeader = "X-Request-Id"

// MaxWatchers limits the clients that watch a supervisor at the same time, to half of the file descriptors that are reserved for control
// clients (forwarder/filelimit): commands and prompts always get through.
const MaxWatchers = 16

// ErrTooManyWatchers is the error for a watcher beyond MaxWatchers.
var ErrTooManyWatchers = fmt.Errorf("too many clients watch the project (%d)", MaxWatchers)

// ErrEnding is the error of a supervisor that is shutting down or has been replaced: the client should call again.
var ErrEnding = errors.New("the supervisor is ending")
