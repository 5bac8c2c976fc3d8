package lockstate

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

// stateVersion is the version of the state file's format. A file of another version is moved aside.
const stateVersion = 1

// LeaseKind is the kind of a lease's holder.
type LeaseKind string

// The kinds of lease.
const (
	ShellLease LeaseKind = "shell"
	ExecLease  LeaseKind = "exec"
	// ProcessLease is held by a process for which another one took it: an agent, an editor. Earlier versions count it, but do not name it.
	ProcessLease LeaseKind = "process"
	StartLease   LeaseKind = "start" // no process: it lasts until stop --all, deny or reboot
	// BorrowedLease is held by the supervisor of another project, for the services that this one shares with it.
	BorrowedLease LeaseKind = "borrowed"
)

// Lease is a claim that keeps the supervisor running.
type Lease struct {
	Kind LeaseKind `json:"kind"`
	Process
	Dir   string    `json:"dir,omitempty"` // the holder's working directory when it took the lease
	Since time.Time `json:"since"`
	// PIDNamespace is the id of the PID namespace in which the process has this pid; 0 in a lease of an older version: that of whoever reads it.
	PIDNamespace uint64 `json:"pid_ns,omitempty"`
	// NetNamespace is the id of the network namespace of whoever took the lease, Boot the boot id of its kernel; 0 and empty in a lease of an
	// older version.
	NetNamespace uint64 `json:"net_ns,omitempty"`
	Boot         string `json:"boot,omitempty"`
}

// unseenLeaseTime is how long a lease of another PID namespace is valid whose process is not visible to the supervisor.
const unseenLeaseTime = time.Minute

// isForeign reports whether a PID namespace is known to be another one than that of this process: pids have another meaning there.
func isForeign(namespace uint64) bool { return isOther(namespace, ownNamespaces().pid) }

// isOther reports whether two namespaces are known to differ; 0 is one that is not known.
func isOther(namespace, own uint64) bool { return namespace != 0 && own != 0 && namespace != own }

// Here returns the lease of a process of this PID namespace.
func (l Lease) Here() Lease {
	l.Boot, _ = bootID()
	if own := ownNamespaces(); l.Kind != StartLease {
		l.PIDNamespace, l.NetNamespace = own.pid, own.net
	}
	return l
}

// isOfOtherBoot reports whether a lease was taken under another kernel, as in a virtual machine that shares the home directory.
func (l Lease) isOfOtherBoot() bool {
	if l.Boot == "" {
		return false
	}
	id, err := bootID()
	return err == nil && id != "" && l.Boot != id
}

// IsAlive reports whether the lease is still valid. A process of another PID namespace is never judged dead from where it is not visible.
func (l Lease) IsAlive() bool {
	if l.isOfOtherBoot() {
		return false
	}
	if l.Kind == StartLease {
		return true
	}
	p, isVisible := l.VisibleProcess()
	if !isVisible {
		return l.isMarkedAlive() || ownNamespaces().pid != initialPIDNamespace
	}
	return p.IsAlive()
}

// VisibleProcess returns the lease's process as this PID namespace numbers it. It is not ok if the process is of another namespace and not
// visible here.
func (l Lease) VisibleProcess() (p Process, ok bool) {
	if !isForeign(l.PIDNamespace) {
		return l.Process, true
	}
	return findInNamespace(l.Process, l.PIDNamespace)
}

// hasExpired reports whether a lease has been of no use to a supervisor for too long, because its process is not visible to it.
func (l Lease) hasExpired() bool {
	if !isForeign(l.PIDNamespace) || time.Since(l.Since).Abs() < unseenLeaseTime || l.isMarkedAlive() { // negative: the clock was set back
		return false
	}
	_, isVisible := l.VisibleProcess()
	return !isVisible
}

func (l Lease) isSame(o Lease) bool {
	return l.Kind == o.Kind && l.Process == o.Process && (l.PIDNamespace == o.PIDNamespace || l.PIDNamespace == 0 || o.PIDNamespace == 0)
}

// refusalTime is how long a version that could not start is not tried again: the machine may have been out of memory.
const refusalTime = time.Hour

// Refuses reports whether a newer version is not to try to take over, because it has failed to. A time in the future was written before the clock was
// set back.
func (s Supervisor) Refuses(version string) bool {
	return s.Refused == version && (s.RefusedAt.IsZero() || time.Since(s.RefusedAt).Abs() < refusalTime)
}

// Supervisor is the last supervisor that was elected. Only the election lock tells whether it is still running.
type Supervisor struct {
	Process
	Run     string    `json:"run"`    // its run id, which is in the environment of its children
	Socket  string    `json:"socket"` // its control socket
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	Keeper  int       `json:"keeper,omitempty"` // pid of the keeper, which holds copies of its listeners; 0: none yet
	// Refused is the newer version that failed to take over from this one. It is tried again refusalTime after RefusedAt or, if that is zero, when
	// the supervisor removes it: for a login that would be lost.
	Refused   string    `json:"refused,omitempty"`
	RefusedAt time.Time `json:"refused_at,omitzero"`
	// PIDNamespace is as in Lease. The others are the ids of its network, mount and user namespaces. 0: an older version.
	PIDNamespace   uint64 `json:"pid_ns,omitempty"`
	NetNamespace   uint64 `json:"net_ns,omitempty"`
	MountNamespace uint64 `json:"mnt_ns,omitempty"`
	UserNamespace  uint64 `json:"user_ns,omitempty"`
	// Services are those of the project, for processes that cannot ask the supervisor. ServicesAt is when they were recorded.
	Services   []RecordedService `json:"services,omitempty"`
	ServicesAt time.Time         `json:"services_at,omitzero"`
}

// RecordedService is what a supervisor records of a service.
type RecordedService struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"` // local ones, HOST:PORT; none for a reverse forward
	Held      bool     `json:"held"`      // the supervisor holds its port
}

// Equal reports whether two records are the same.
func (s RecordedService) Equal(o RecordedService) bool {
	return s.Name == o.Name && s.Held == o.Held && slices.Equal(s.Addresses, o.Addresses)
}

// IsForeign reports whether the supervisor runs in another PID namespace, as that of a container or sandbox: its pid has another meaning here.
func (s *Supervisor) IsForeign() bool { return isForeign(s.PIDNamespace) }

// IsOnOtherNetwork reports whether the supervisor runs in another network namespace: its ports on loopback addresses cannot be reached from here.
func (s *Supervisor) IsOnOtherNetwork() bool { return isOther(s.NetNamespace, ownNamespaces().net) }

// ForeignNamespaces returns the kinds of namespaces in which the supervisor and this process differ, of those that decide who may change what it
// does: "user", "mount", "PID". Paths, programs and pids have another meaning there.
func (s *Supervisor) ForeignNamespaces() (kinds []string) {
	own := ownNamespaces()
	for _, namespace := range []struct {
		kind     string
		its, own uint64
	}{{"user", s.UserNamespace, own.user}, {"mount", s.MountNamespace, own.mount}, {"PID", s.PIDNamespace, own.pid}} {
		if isOther(namespace.its, namespace.own) {
			kinds = append(kinds, namespace.kind)
		}
	}
	return kinds
}

// IsInUserNamespaceAbove reports whether the supervisor's user namespace is another one that may be above that of this process, which then
// cannot enter it.
func (s *Supervisor) IsInUserNamespaceAbove() bool {
	own := ownNamespaces().user
	return isOther(s.UserNamespace, own) && own != initialUserNamespace
}

// IsInInitialPIDNamespace reports whether the supervisor's PID namespace is that of the machine, which does not end with a container.
func (s *Supervisor) IsInInitialPIDNamespace() bool { return s.PIDNamespace == initialPIDNamespace }

// VisibleProcess returns the supervisor's process as this PID namespace numbers it. It is not ok if the supervisor is of another namespace and
// not visible here.
func (s *Supervisor) VisibleProcess() (p Process, ok bool) {
	if !s.IsForeign() {
		return s.Process, true
	}
	return findInNamespace(s.Process, s.PIDNamespace)
}

// IsAlive reports whether the supervisor's process is running. A foreign one is never judged dead.
func (s *Supervisor) IsAlive() bool { return s.IsForeign() || s.Process.IsAlive() }

// Here returns the record of a supervisor that runs in the namespaces of this process.
func (s *Supervisor) Here() *Supervisor {
	own := ownNamespaces()
	s.PIDNamespace, s.NetNamespace, s.MountNamespace, s.UserNamespace = own.pid, own.net, own.mount, own.user
	return s
}

// Draining is a supervisor that accepts no new clients, and runs until the established connections have ended.
type Draining struct {
	Process
	Connections map[string]int `json:"connections"`    // by service, when they were last counted
	Until       time.Time      `json:"until,omitzero"` // when it closes those that are left; zero: no limit
	// PassedOn is set if the connections are those of services that another project has taken over: "stop" leaves them alone.
	PassedOn bool `json:"passed_on,omitempty"`
}

// State is the stored state of a project. It holds no secret.
type State struct {
	Version    int            `json:"version"`
	ID         string         `json:"id"` // random: distinguishes a recreated state from a changed one
	Config     string         `json:"config"`
	Boot       string         `json:"boot"`
	Leases     []Lease        `json:"leases"`
	Supervisor *Supervisor    `json:"supervisor,omitempty"` // nil after a clean end
	Ports      map[string]int `json:"ports,omitempty"`      // local_port = "auto", by service
	Down       bool           `json:"down,omitempty"`       // the user stopped the whole project: prompts do not start it
	Stopped    []string       `json:"stopped,omitempty"`    // services stopped by the user
	Started    []string       `json:"started,omitempty"`    // services that the user started by name: they run even if disabled
	Only       []string       `json:"only,omitempty"`       // if not empty: the project was started with only these services
	Failure    string         `json:"failure,omitempty"`    // why the last start failed
	Draining   []Draining     `json:"draining,omitempty"`   // older versions drop the field
	Line       uint64         `json:"line"`                 // the number in the prompt's line
	// DownFile is set by versions that keep the down file, which then takes precedence over Down. Older versions drop the field.
	DownFile bool `json:"down_file,omitempty"`
	// IsOlderCopy: the state file was replaced by an older copy of itself, and no supervisor has restored yet what that lacks. Older versions
	// drop the field.
	IsOlderCopy bool `json:"older_copy,omitempty"`
	// TakeoverUntil is set while a supervisor starts that takes over from one in another namespace: until then that one does not lock the
	// election again. Older versions do, and keep the project.
	TakeoverUntil time.Time `json:"takeover_until,omitzero"`
	// OtherBoots are what processes under other kernels have recorded, in the order in which they were last current.
	OtherBoots []BootRecords `json:"other_boots,omitempty"`
	// ConfigBytes is Config where that is not UTF-8, which JSON cannot hold; else nil. Older versions drop it.
	ConfigBytes []byte `json:"config_bytes,omitempty"`
	// HostID is that of the last supervisor that was elected: see ownHostID. Older versions drop it.
	HostID string `json:"view,omitempty"`
}

// BootRecords are the entries of a state that are valid under one kernel only. Under another one, after a reboot or in a virtual machine that
// shares the home directory, they are kept, and have no effect.
type BootRecords struct {
	Boot       string      `json:"boot"`
	Leases     []Lease     `json:"leases,omitempty"`
	Supervisor *Supervisor `json:"supervisor,omitempty"`
	Draining   []Draining  `json:"draining,omitempty"`
	Down       bool        `json:"down,omitempty"`
}

// maxOtherBoots limits State.OtherBoots: each reboot may leave one.
const maxOtherBoots = 4

// switchBoot makes the entries of the boot id the current ones.
func (st *State) switchBoot(id string) {
	previous := BootRecords{st.Boot, st.Leases, st.Supervisor, st.Draining, st.Down}
	own := BootRecords{Boot: id}
	var others []BootRecords
	for _, records := range st.OtherBoots {
		if records.Boot == id {
			own = records
		} else {
			others = append(others, records)
		}
	}
	if len(previous.Leases) > 0 || previous.Supervisor != nil || previous.Down {
		others = append(others, previous)
	}
	st.OtherBoots = others[max(0, len(others)-maxOtherBoots):]
	st.Boot, st.Leases, st.Supervisor, st.Draining, st.Down = own.Boot, own.Leases, own.Supervisor, own.Draining, own.Down
}

var boot struct {
	sync.Mutex
	id     string
	isRead bool
}

// bootID identifies this boot of the system. It is read once; an error is not cached.
func bootID() (string, error) {
	boot.Lock()
	defer boot.Unlock()
	if boot.isRead {
		return boot.id, nil
	}
	id, err := readBootID()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errBootUnknown, err)
	}
	boot.id, boot.isRead = id, true
	return id, nil
}

// errBootUnknown says that it is not known whether a state is of this boot. The state itself is valid.
var errBootUnknown = errors.New("cannot read the boot id")

func newState(config string) State {
	id, _ := bootID() // known by then: see load
	st := State{Version: stateVersion, ID: rand.Text()[:12], Config: config, Boot: id}
	if !utf8.ValidString(config) {
		st.ConfigBytes = []byte(config)
	}
	return st
}

// decodeState decodes the JSON of a state, of this boot or another one, into st.
func decodeState(data []byte, st *State) error {
	err := json.Unmarshal(data, st)
	if st.ConfigBytes != nil {
		st.Config = string(st.ConfigBytes)
	}
	return err
}

// parseState decodes the state of a config. It rejects an incomplete one, and sets aside what is only valid during another boot.
func parseState(data []byte, config string) (State, error) {
	var st State
	if err := decodeState(data, &st); err != nil {
		return State{}, err
	}
	switch {
	case st.Version != stateVersion:
		return State{}, fmt.Errorf("its format is version %d, not %d", st.Version, stateVersion)
	case st.Config != config:
		return State{}, fmt.Errorf("it belongs to %q", st.Config)
	case st.ID == "":
		return State{}, errors.New("it has no id")
	}
	id, err := bootID()
	if err != nil {
		return State{}, err
	}
	if st.Boot != id {
		st.switchBoot(id)
	}
	return st, nil
}

// AddLease records a lease, unless the same process has one already.
func (st *State) AddLease(l Lease) {
	if !slices.ContainsFunc(st.Leases, l.isSame) {
		st.Leases = append(st.Leases, l)
	}
}

// RemoveLease removes the lease of this kind and process, if there is one.
func (st *State) RemoveLease(kind LeaseKind, p Process) {
	drop := Lease{Kind: kind, Process: p}.Here()
	st.Leases = slices.DeleteFunc(st.Leases, drop.isSame)
}

// RemoveLeaseAsOf removes the lease of drop's kind and process, unless it was taken after at. A zero time means now.
func (st *State) RemoveLeaseAsOf(drop Lease, at time.Time) {
	st.Leases = slices.DeleteFunc(st.Leases, func(l Lease) bool { return l.isSame(drop) && (at.IsZero() || !l.Since.After(at)) })
}

// PruneLeases removes the leases of processes that have ended. The supervisor also removes expired leases of processes that are not visible to it.
func (st *State) PruneLeases() {
	mayExpire := st.Supervisor != nil && !st.Supervisor.IsForeign() && st.Supervisor.Process == Self()
	st.Leases = slices.DeleteFunc(st.Leases, func(l Lease) bool { return !l.IsAlive() || mayExpire && l.hasExpired() })
}

// SetDraining replaces the entry of a draining supervisor, removes it if no connection is left, and removes those that have ended.
func (st *State) SetDraining(d Draining) {
	draining := st.LiveDraining()
	draining = slices.DeleteFunc(draining, func(other Draining) bool { return other.Process == d.Process })
	if len(d.Connections) > 0 {
		draining = append(draining, d)
	}
	st.Draining = draining
}

// LiveDraining are the draining supervisors that are still running.
func (st *State) LiveDraining() []Draining {
	return slices.DeleteFunc(slices.Clone(st.Draining), func(d Draining) bool { return !d.IsAlive() })
}
