package forwarder

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/localport-sh/localport/project"
)

// Technology is what a package registers in forwarder/supervisor/technologies.go: the name and config keys of a technology, how its
// tunnels are opened, and how a user logs in. The values of the keys are in a service's Connection.Settings.
type Technology struct {
	project.TechnologyType
	// New makes the driver for one supervisor. It does not block. Everything that the driver runs ends with Close, or with ctx.
	New func(ctx context.Context, host Host) Driver
	// VariableUse returns a function that reports whether a tunnel of a service uses a variable of the environment: after a change of its
	// value the tunnel must be opened again. dir is the project's root, env the environment of child processes. It may read files; the
	// function that it returns does not. Nil: tunnels use no variable.
	//
	// What the config mentions as ${NAME} is not asked about: a change of that changes the service's definition.
	VariableUse func(svc project.Service, dir string, env []string) func(name string) bool
	// Login returns the login of a service, for child processes in dir with this environment. There is none if the func is nil, or
	// if the result has no Run and UsesAskSocket is false.
	Login func(svc project.Service, dir string, env []string) Login
	// Explain returns facts about the target of a service's tunnel: how ssh resolves its host, what a cluster reports of its
	// pods. Only Dir and Env of run are used. It runs programs and reads files that the config names, so the config must be allowed. It asks
	// nobody anything, and returns what it knows when ctx ends. The facts hold no secret. Nil: there are no such facts.
	Explain func(ctx context.Context, svc project.Service, run Run) []Fact
	// Preflight returns the first thing that a service's tunnel needs on this machine and that is missing: its program, a key file, a context of the
	// kubeconfig. It connects to nothing, and runs nothing. Dir and Env of run are set. Nil: nothing is needed.
	Preflight func(svc project.Service, run Run) *Failure
	// Verify connects to where a service's tunnel leads, as the tunnel would, and reports whether the user may forward there. It opens no port,
	// and asks nobody anything. Services with the same Login.Key have the same result. Dir, Env, Log and SocketDir of run are set. Nil: there
	// is nothing to verify beside the service itself.
	Verify func(ctx context.Context, svc project.Service, run Run) Verification
}

// Verification is the result of Technology.Verify.
type Verification struct {
	Summary string        // what was reached, in a few words
	Failure *Failure      // why forwards fail there; nil if they do not
	Skew    time.Duration // by how much the server's clock is ahead of this machine's; 0 if it is not known
}

// Fact is one thing that a technology has found out about a service's far end, in one line.
type Fact struct {
	Label string `json:"label"` // what the text is about, in a word: "ssh", "cluster"
	Text  string `json:"text"`
}

// EventFact is the label of what happened at the far end. It explains nothing of a service that is healthy.
const EventFact = "event"

// Login is how a user logs in, in the foreground, for services that need attention.
type Login struct {
	Key  string // services of a technology with the same key share the login
	Name string // what the user logs in to, for display; empty if there is no login
	// UsesAskSocket is set if the login is to open the service's tunnel in the supervisor, with Run.AskSocket for its questions.
	UsesAskSocket bool
	// HasNoHelper is set if Run would run nothing: what a login needs is in files that other programs write.
	HasNoHelper bool
	// Warning is something wrong with the service's config that the login may run into, for display before it; may be empty.
	Warning string
	// Run logs in on the user's terminal. It returns a secret credential for a CredentialReceiver, nil if there is none. done is
	// false if no login was necessary.
	Run func(ctx context.Context, terminal Terminal) (credential []byte, done bool, err error)
}

// Terminal is the user's terminal during a login.
type Terminal struct {
	In       io.Reader
	Out, Err io.Writer
}

// Host is what a supervisor provides to a driver.
type Host struct {
	Dir string       // the project's root
	Log *slog.Logger // the supervisor's log; nil: nothing is logged
}

// Driver opens the tunnels of all services of one technology, for one supervisor. It owns what services share: a login, a connection
// to a server, remembered failures. Its methods are safe for concurrent use.
//
// What a driver remembers of a service is keyed by the service's name, and discarded when the definition changes.
type Driver interface {
	// Open opens a tunnel and returns when it is ready, which it knows from what the tool prints or does. An error is a *Failure or
	// the context's. After an error nothing is left running.
	Open(ctx context.Context, svc project.Service, run Run) (Tunnel, error)
	// Target names the far end of a service for display, as far as it is known: "ssh deploy@bastion → localhost:6379". It holds no
	// secret, and may change when a tunnel is opened.
	Target(svc project.Service) string
	// Close closes what services share and returns when nothing is left running. Every tunnel must have been closed before.
	Close() error
}

// ClusterReporter is implemented by a driver whose tunnels lead into clusters.
type ClusterReporter interface {
	// Cluster returns what is known of the cluster that a service leads into; false if nothing is.
	Cluster(svc project.Service) (ClusterInfo, bool)
}

// TargetIdentifier is implemented by a driver whose tunnels may be shared by several projects.
type TargetIdentifier interface {
	// TargetKey returns what decides where a tunnel of a service leads, and as whom: two services with equal keys can share a tunnel. Only Dir,
	// Env and RequestedAt of run are used. A zero RequestedAt means the tunnel that the service has. Else it is one that is opened with run;
	// what Open would fix is fixed then. It reads files. The key may hold secrets; only a digest of it leaves the process. It is not
	// ok if the tunnel is not to be shared, or if where it leads cannot be told.
	TargetKey(svc project.Service, run Run) (key []string, ok bool)
}

// NetworkObserver is implemented by a driver that remembers failures which another network may end.
type NetworkObserver interface {
	// OnNetworkChange is called when the machine's network has changed, and after it has slept. It does not block.
	OnNetworkChange()
}

// CredentialReceiver is implemented by a driver that takes the credential of a login in the foreground.
type CredentialReceiver interface {
	// ReceiveCredential takes the credential of a service's login. Only Dir, Env and Log of run are set. An error never quotes the
	// credential.
	ReceiveCredential(svc project.Service, run Run, credential []byte) error
}
