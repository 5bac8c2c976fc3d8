package place

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/fail"
	"github.com/localport-sh/localport/cmd/localport/version"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// Entry is how a command joins a project.
type Entry struct {
	Lease lockstate.Lease
	// Heal brings up what the user stopped as a whole; prompts do not.
	Heal bool
	// Detach: the caller will become another program, which must not inherit the supervisor as its child.
	Detach bool
	// Allowed: the files as they stand may be run. Otherwise a supervisor that already runs is joined, on the old
	// text, and none is started.
	Allowed bool
	// Prepare changes the state further, under the same lock; alive says whether a supervisor lives.
	Prepare func(tx *lockstate.Tx, alive bool)
}

// Joined is a project that is up.
type Joined struct {
	control.Client
	place   *Place
	View    control.View
	Started bool // by this call
}

// ErrDown says that the project is down and that this caller is not to bring it up.
var ErrDown = errors.New("the project is down")

// Join takes the lease, brings a supervisor up where none lives, and returns what it says of the services. Every
// address in the view that is held accepts connections when it returns.
func (p *Place) Join(ctx context.Context, e Entry) (*Joined, error) {
	started, replaced := false, false
	for {
		client, err := p.claim(ctx, e)
		if err != nil {
			return nil, err
		}
		if client != nil && !replaced {
			if replaced = p.replaced(ctx, client); replaced {
				continue
			}
		}
		if client == nil {
			word, err := p.spawner(e.Detach).Spawn(ctx)
			if err != nil {
				return nil, err
			}
			started = started || word.Outcome == control.Ready
			continue
		}
		view, err := client.Join(ctx, p.Session())
		var lost *control.UnreachableError
		if errors.As(err, &lost) && ctx.Err() == nil {
			// Elected, but not listening yet, or just ending: nothing tells when that is over.
			if Pause(ctx, 5*time.Millisecond) {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		return &Joined{*client, p, view, started}, nil
	}
}

// claim records the lease and returns the client of the living supervisor; nil where one must be started.
func (p *Place) claim(ctx context.Context, e Entry) (client *control.Client, err error) {
	state, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		alive := tx.Alive()
		if e.Heal {
			tx.Down = false
		}
		if !alive && !e.Allowed {
			return &fail.NotAllowedError{Config: p.Config}
		}
		tx.Prune()
		if e.Lease.Kind != "" {
			tx.Hold(e.Lease)
		}
		if e.Prepare != nil {
			e.Prepare(tx, alive)
		}
		client, err = reach(tx, alive)
		return err
	})
	if err == nil && client == nil && state.Down {
		return nil, ErrDown
	}
	return client, err
}

// replaced has a supervisor of an older release replaced by one of ours; false where there is nothing to replace. One
// that could not be replaced says so in its state, and is not asked again.
func (p *Place) replaced(ctx context.Context, client *control.Client) bool {
	running := p.Dir.Peek().Supervisor
	exe, err := os.Executable()
	own := version.Own()
	if err != nil || running == nil || running.Refused == own || !version.Supersedes(own, running.Version) {
		return false
	}
	return client.Replace(ctx, control.Replacement{Exe: exe, Version: own}) == nil
}

func (p *Place) spawner(detach bool) control.Spawner {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	args := []string{"supervise", "--config", p.Config}
	if p.level != "" {
		args = append(args, "--log-level", p.level)
	}
	return control.Spawner{
		Exe: exe, Args: args,
		Env: unmarked(os.Environ()), Log: p.Dir.Log("supervisor"), Detach: detach,
	}
}

// unmarked is an environment without the mark of another project's tunnel: a supervisor that was started from one must
// not be taken for what that tunnel left behind.
func unmarked(env []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool { return strings.HasPrefix(entry, forwarder.RunVariable+"=") })
}

// Session is what this shell has that may have stopped working in the supervisor's environment.
func (p *Place) Session() control.Session {
	return control.Session{
		SSHAuthSock: os.Getenv("SSH_AUTH_SOCK"), Kubeconfig: os.Getenv("KUBECONFIG"), Path: os.Getenv("PATH"),
		Level: p.level,
	}
}

// Pause waits for d; false if ctx ends first.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Current brings a running supervisor to the files as they stand, where those are allowed. The error is why it
// stays on the old ones.
func (j *Joined) Current(ctx context.Context, files *project.Files) error {
	if j.View.Digest == files.Digest() {
		return nil
	}
	if _, err := j.Reload(ctx); err != nil {
		return err
	}
	view, err := j.Join(ctx, j.place.Session())
	if err == nil {
		j.View = view
	}
	return err
}
