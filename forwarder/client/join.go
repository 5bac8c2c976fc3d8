package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// JoinOptions is how a command joins a project.
type JoinOptions struct {
	Lease lockstate.Lease
	// ReleasedBySocket: this very lease was, when the state could not be written. The file may hold it still, and the
	// supervisor know better.
	ReleasedBySocket bool
	// RestartStopped brings up what the user stopped as a whole; prompts do not.
	RestartStopped bool
	// Detach: the caller will become another program, which must not inherit the supervisor as its child.
	Detach bool
	// Allowed: the files as they stand may be run. Otherwise a supervisor that already runs is joined, on the old
	// text, and none is started.
	Allowed bool
	// OnUpdate changes the state further, under the same lock; alive says whether a supervisor lives.
	OnUpdate func(tx *lockstate.Tx, alive bool)
}

// JoinedProject is a project that is up.
type JoinedProject struct {
	Client
	project *Project
	View    api.ProjectView
	Started bool // by this call
}

// ErrDown means that the project is stopped and this caller must not start it.
var ErrDown = errors.New("the project is stopped")

// Join takes the lease, brings a supervisor up where none lives, and returns what it says of the services. Every
// address in the view that is held accepts connections when it returns.
//
// Where the lease cannot be written to the state file, because the disk is full or somebody else holds the file's lock for
// too long, a supervisor that answers counts it all the same.
func (p *Project) Join(ctx context.Context, options JoinOptions) (*JoinedProject, error) {
	startedAt := time.Now()
	j := &joiner{Project: p, JoinOptions: options}
	for {
		client, view, err := j.attempt(ctx)
		if err != nil {
			return nil, err
		}
		if client != nil {
			return &JoinedProject{*client, p, view, j.hasSpawned}, nil
		}
		// Elected, but not listening yet, or shutting down: there is no event to wait for.
		if j.isUnreachable && !wait.Sleep(ctx, 5*time.Millisecond) {
			return nil, p.newNoAnswerError(time.Since(startedAt))
		}
	}
}

// joiner is a Join in progress.
type joiner struct {
	*Project
	JoinOptions
	hasClaimed      bool // the lease is recorded: a later stop of the project applies to this caller too
	hasAskedSockets bool // the election was free, and the sockets have been tried
	isUnelected     bool // a supervisor whose election file was deleted answers
	hasLockTimedOut bool // the file lock could not be had in half of the time
	waitsForLock    bool // and no supervisor answered without it: the other half is for the lock too
	hasReplaced     bool // an older supervisor was replaced
	hasSpawned      bool // this joiner started a supervisor
	isUnreachable   bool // the election is held, but nothing is listening
}

// errElectionFree means that no process holds the election.
var errElectionFree = errors.New("the election is free")

// leaseRefusal is why a lease is not taken, as opposed to why it could not be written.
type leaseRefusal struct{ error }

func (r *leaseRefusal) Unwrap() error { return r.error }

// attempt makes one attempt. If client and error are nil, another one is needed.
func (j *joiner) attempt(ctx context.Context) (*Client, api.ProjectView, error) {
	j.isUnreachable = false
	running, err := j.claimLease(ctx)
	switch {
	case errors.Is(err, errElectionFree):
		// The lock file of a running supervisor may have been deleted: its sockets are tried before another one is started.
		client, _, err := j.askStatus(ctx)
		j.hasAskedSockets, j.isUnelected = true, client != nil
		return nil, api.ProjectView{}, err
	case err != nil:
		return j.joinBySocket(ctx, err)
	case !running:
		readiness, err := j.newSpawner(j.Detach).Spawn(ctx)
		j.hasSpawned = j.hasSpawned || err == nil && readiness.Outcome == OutcomeReady
		return nil, api.ProjectView{}, err
	}
	if !j.hasReplaced && j.replaceOlder(ctx) {
		j.hasReplaced = true
		return nil, api.ProjectView{}, nil
	}
	request := j.NewJoinRequest()
	if j.ReleasedBySocket {
		request.Lease = j.wireLease()
	}
	client, view, err := j.joinSupervisor(ctx, request)
	if _, isUnreachable := errors.AsType[*UnreachableError](err); isUnreachable && ctx.Err() == nil {
		j.isUnreachable, j.hasAskedSockets, j.isUnelected = true, false, false
		return nil, view, nil
	}
	return client, view, err
}

// claimLease records the lease and reports whether a supervisor is running. The error is errElectionFree, a *leaseRefusal, or why the
// state could not be written.
func (j *joiner) claimLease(ctx context.Context) (running bool, err error) {
	lockCtx, cancel := j.lockContext(ctx)
	defer cancel()
	isNotAllowed := false
	state, err := j.Dir.Update(lockCtx, func(tx *lockstate.Tx) error {
		running, isNotAllowed = tx.IsSupervisorRunning() || j.isUnelected, false
		switch {
		case !running && !j.hasAskedSockets:
			return errElectionFree
		case !running && !j.Allowed:
			isNotAllowed = true
			tx.Down = tx.Down && !j.RestartStopped // once it is allowed, the next prompt brings it up
			return nil
		case !running && tx.Down && j.hasClaimed:
			return &leaseRefusal{ErrDown}
		}
		if j.RestartStopped {
			tx.Down = false
		}
		tx.PruneLeases()
		if j.Lease.Kind != "" {
			tx.AddLease(j.Lease)
		}
		if j.OnUpdate != nil {
			j.OnUpdate(tx, running)
		}
		return nil
	})
	if isNotAllowed && (err == nil || errors.As(err, new(*lockstate.WriteError))) {
		return false, &leaseRefusal{&NotAllowedError{Config: j.Config}}
	}
	j.hasClaimed = j.hasClaimed || err == nil
	if err == nil && !running && state.Down {
		return false, &leaseRefusal{ErrDown}
	}
	j.hasLockTimedOut = j.hasLockTimedOut || err != nil && lockCtx.Err() != nil && ctx.Err() == nil
	return running, err
}

// lockContext is how long the file lock is waited for before the supervisor is asked without it: at first half of what time
// there is, then as long as there is any.
func (j *joiner) lockContext(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || j.waitsForLock {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// joinBySocket joins with a lease that could not be written to the state file, for the reason given: a supervisor that
// answers counts it. Where none does, that reason is the error.
func (j *joiner) joinBySocket(ctx context.Context, cause error) (*Client, api.ProjectView, error) {
	if refusal, ok := errors.AsType[*leaseRefusal](cause); ok {
		return nil, api.ProjectView{}, refusal.error
	}
	if ctx.Err() != nil {
		return nil, api.ProjectView{}, cause
	}
	client, _, err := j.askStatus(ctx)
	switch {
	case err != nil:
		return nil, api.ProjectView{}, err
	case client == nil && j.hasLockTimedOut && !j.waitsForLock:
		j.waitsForLock = true
		return nil, api.ProjectView{}, nil
	case client == nil:
		return nil, api.ProjectView{}, cause
	}
	request := j.NewJoinRequest()
	request.Lease = j.wireLease()
	view, err := client.Join(ctx, request)
	if err == nil && request.Lease != nil && view.Config == "" {
		return nil, view, cause // it is of a release that knows no leases but those in the file
	}
	return client, view, err
}

// wireLease is the lease for the supervisor; nil if none is taken.
func (j *joiner) wireLease() *api.Lease {
	if j.Lease.Kind == "" {
		return nil
	}
	lease := WireLease(j.Lease)
	return &lease
}

// joinSupervisor joins the supervisor wherever it may listen.
func (p *Project) joinSupervisor(ctx context.Context, request api.JoinRequest) (*Client, api.ProjectView, error) {
	startedAt := time.Now()
	var err error = &UnreachableError{Socket: p.Dir.Path, Err: errors.New("nothing is listening")}
	for _, socket := range p.Dir.Sockets() {
		client := &Client{Socket: socket}
		var view api.ProjectView
		view, err = client.Join(ctx, request)
		if err == nil && view.Config != "" && !p.hasConfig(view.Config) {
			err = &UnreachableError{Socket: socket, Err: fmt.Errorf("it belongs to %s", view.Config)}
		}
		if errors.Is(err, ErrNoAnswer) {
			return nil, view, p.newNoAnswerError(time.Since(startedAt))
		}
		if _, isUnreachable := errors.AsType[*UnreachableError](err); !isUnreachable {
			return client, view, err
		}
	}
	return nil, api.ProjectView{}, err
}

// replaceOlder has a supervisor of an older release replaced by one of ours; false where there is nothing to replace. One that
// could not be replaced says so in its state, and is not asked again.
func (p *Project) replaceOlder(ctx context.Context) bool {
	running := p.Dir.ReadOrZero().Supervisor
	exe, err := os.Executable()
	if err != nil || running == nil || running.Refused == p.version || !supersedes(p.version, running.Version) {
		return false
	}
	for _, socket := range p.Dir.Sockets() {
		if (Client{Socket: socket}).Replace(ctx, api.ReplaceRequest{Exe: exe, Version: p.version}) == nil {
			return true
		}
	}
	return false
}

func (p *Project) newSpawner(detach bool) Spawner {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	args := []string{"supervise", "--config", p.Config}
	if p.logLevel != "" {
		args = append(args, "--log-level", p.logLevel)
	}
	return Spawner{
		Exe: exe, Args: args,
		Env: withoutRunVariable(os.Environ()), Log: p.Dir.LogPath("supervisor"), Detach: detach,
	}
}

// withoutRunVariable is an environment without the mark of another project's tunnel: a supervisor that was started from one must
// not be taken for what that tunnel left behind.
func withoutRunVariable(env []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool { return strings.HasPrefix(entry, forwarder.RunVariable+"=") })
}

// NewJoinRequest is what this shell has that may have stopped working in the supervisor's environment.
func (p *Project) NewJoinRequest() api.JoinRequest {
	return api.JoinRequest{
		SSHAuthSock: os.Getenv("SSH_AUTH_SOCK"), Kubeconfig: os.Getenv("KUBECONFIG"), Path: os.Getenv("PATH"),
		Level: p.logLevel,
	}
}

// ReloadIfChanged brings a running supervisor to the files as they stand, where those are allowed. The error is why it
// stays on the old ones.
func (j *JoinedProject) ReloadIfChanged(ctx context.Context, files *project.Files) error {
	if j.View.Digest == files.Digest() {
		return nil
	}
	if _, err := j.Reload(ctx); err != nil {
		return err
	}
	view, err := j.Join(ctx, j.project.NewJoinRequest())
	if err == nil {
		j.View = view
	}
	return err
}
