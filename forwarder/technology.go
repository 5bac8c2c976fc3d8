package forwarder

import (
	"context"
	"io"
	"log/slog"

	"github.com/localport-sh/localport/project"
)

// Technology is what a package registers, as a line in forwarder/supervisor/technologies.go: the technology's name and its
// keys, whose values are in the service's Connection.Settings, how its tunnels are opened, and how a user logs in. Those that
// localport comes with are registered like any other.
type Technology struct {
	project.TechnologyType
	// New makes the driver for one supervisor. It starts nothing that takes time. What the driver runs ends with ctx at the
	// latest, and otherwise by Close.
	New func(ctx context.Context, host Host) Driver
	// HasNoChildProcess says that its tunnels run no program: the environment of children is nothing to them.
	HasNoChildProcess bool
	// Login is the login of a service, for children in dir with this environment; nil, or one without a Run that does not
	// ask: there is nothing to go through.
	Login func(svc project.Service, dir string, env []string) Login
}

// Login is what a user goes through in the foreground for services that need attention.
type Login struct {
	Key  string // services of a technology with the same key share the login
	Name string // of what the user logs in to, for people; empty where there is nothing to go through
	// Asks says that the supervisor's tunnel asks the questions: it is opened with Run.Ask, where they are answered.
	Asks bool
	// Run goes through the login on the user's terminal. It returns what a CredentialReceiver is to be given, nil if
	// nothing; it is secret. False: it turned out that there is nothing to go through.
	Run func(ctx context.Context, terminal Terminal) (credential []byte, done bool, err error)
}

// Terminal is where a login in the foreground speaks with the user.
type Terminal struct {
	In       io.Reader
	Out, Err io.Writer
}

// Host is what a supervisor tells a driver of itself.
type Host struct {
	Dir string       // the project's root
	Log *slog.Logger // the supervisor's log; nil: nothing is logged
}

// Driver opens the tunnels of all services of one technology, for one supervisor, which makes it and closes it. What services
// share (a login, a connection to a server, the memory of its failures) belongs to the driver and to nothing outside it. Its
// methods may be called concurrently.
//
// What a driver remembers of a service it keeps by the service's name, and forgets when the service's definition has changed.
type Driver interface {
	// Open starts what is needed and returns when the tunnel is ready, known by what the tool says or does. An error is a
	// *Failure, or the context's. Nothing is left behind after an error.
	Open(ctx context.Context, svc project.Service, run Run) (Tunnel, error)
	// Target names the far end of a service for people, as far as it is known: "ssh deploy@bastion → localhost:6379". It
	// holds no secret, and it may change when a tunnel is opened.
	Target(svc project.Service) string
	// Close ends what services share, and returns when nothing of it is left. Every tunnel has been closed before.
	Close() error
}

// ClusterReporter is implemented by a driver whose tunnels lead into clusters.
type ClusterReporter interface {
	// Cluster is what is known of the cluster that a service leads into; false if nothing is.
	Cluster(svc project.Service) (ClusterInfo, bool)
}

// CredentialReceiver is implemented by a driver that takes a login which the user went through in the foreground.
type CredentialReceiver interface {
	// ReceiveCredential takes what the login of a service gave. Of run only Dir, Env and Log count. An error does not quote
	// the credential.
	ReceiveCredential(svc project.Service, run Run, credential []byte) error
}
