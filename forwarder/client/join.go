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
	"github.com/localport-sh/localport/project/environ"
)

// JoinOptions is how a command joins a project.
type JoinOptions struct {
	Lease lockstate.Lease
	// ReleasedBySocket is set if Leave released this lease by socket before, because the state file could not be written. The file may
	// still have the lease although the supervisor has removed it, so it is sent to the supervisor again.
	ReleasedBySocket bool
	// RestartStopped starts a project that the user has stopped; prompts do not.
	RestartStopped bool
	// Detach is set if the caller will exec another program, which must not have the supervisor as its child.
	Detach bool
	// Allowed is set if the current files are allowed. Otherwise a running supervisor is joined, which uses the previous files, but none
	// is started.
	Allowed bool
	// AnyNetwork is set if the caller does not use the ports: a supervisor in another network namespace is joined too, or moved to this one.
	AnyNetwork bool
	// OnlyRunning is set if the caller must not start a supervisor: if none answers, Join returns an error.
	OnlyRunning bool
	// OnUpdate may be nil. It changes the state further, under the same lock; isRunning says whether a supervisor runs.
	OnUpdate func(tx *lockstate.Tx, isRunning bool)
}

// JoinedProject is a project that runs and that the caller has joined.
type JoinedProject struct {
	Client
	project *Project
	View    api.ProjectView
	Started bool // this call started the supervisor
}

// ErrDown means that the project is stopped and this caller must not start it.
var ErrDown = errors.New("the project is stopped")

// errNotRunning means that no supervisor of the project answers, and that this caller must not start one.
var errNotRunning = errors.New("no supervisor of the project answers")

// Join records the lease, starts a supervisor if none is running, and returns its view of the services. When it returns, every
// address that is held in the view accepts connections. The error is ErrDown, a *NotAllowedError, a *StartError, a *NoAnswerError, a
// *RefusedError, an *OtherNetworkError, a *SandboxError, or says why the state file could not be used.
//
// If the lease cannot be written to the state file, because the disk is full or another process holds the file's lock for
// too long, a running supervisor records it instead.
func (p *Project) Join(ctx context.Context, options JoinOptions) (*JoinedProject, error) {
	startedAt := time.Now()
	options.Lease = options.Lease.Here()
	j := &joiner{Project: p, JoinOptions: options, startedAt: startedAt}
	for {
		client, view, err := j.attempt(ctx)
		if err == nil && j.isUnreachable {
			err = p.checkSocketIsVisible(startedAt)
		}
		if err != nil {
			return nil, j.releaseUnusable(ctx, err)
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

// releaseUnusable releases the lease if err is that the supervisor cannot be asked from here. It returns err.
func (j *joiner) releaseUnusable(ctx context.Context, err error) error {
	if _, isSandboxed := errors.AsType[*SandboxError](err); isSandboxed && j.hasClaimed && j.Lease.Kind != "" {
		_, _ = j.Dir.Update(ctx, func(tx *lockstate.Tx) error { // otherwise the lease ends with its process
			tx.RemoveLease(j.Lease.Kind, j.Lease.Process)
			return nil
		})
	}
	return err
}

// joiner is a Join in progress.
type joiner struct {
	*Project
	JoinOptions
	startedAt       time.Time
	hasClaimed      bool // the lease is recorded: a later stop of the project applies to this caller too
	hasAskedSockets bool // the election was free, and the sockets have been tried
	isUnelected     bool // a supervisor answers although its election file was deleted
	hasLockTimedOut bool // the file lock was not free within half of the time
	waitsForLock    bool // and no supervisor answered, so the other half is spent on the lock too
	hasReplaced     bool // an older supervisor was replaced
	hasSpawned      bool // this joiner started a supervisor
	isUnreachable   bool // the election is held, but nothing is listening
	hasAskedToMove  bool // it is known whether the supervisor, which is in another namespace, can be moved
	takesOver       bool // it can
	isForeign       bool // the supervisor is in another PID namespace
	spawnedAt       time.Time
	bumpedLine      uint64 // the number to which OnUpdate has raised the prompts' line; 0: it has not
}

// errElectionFree means that no process holds the election.
var errElectionFree = errors.New("the election is free")

// leaseRefusal is why a lease must not be recorded. Other errors say why it could not be written.
type leaseRefusal struct{ error }

func (r *leaseRefusal) Unwrap() error { return r.error }

// attempt makes one attempt. If client and error are nil, another one is needed.
func (j *joiner) attempt(ctx context.Context) (*Client, api.ProjectView, error) {
	j.isUnreachable = false
	running, err := j.claimLease(ctx)
	switch {
	case j.OnlyRunning && (errors.Is(err, errElectionFree) || errors.Is(err, errMovable) || err == nil && !running):
		return nil, api.ProjectView{}, errNotRunning
	case errors.Is(err, errElectionFree):
		// The lock file of a running supervisor may have been deleted: its sockets are tried before another one is started.
		client, _, err := j.askStatus(ctx, j.startedAt)
		j.hasAskedSockets, j.isUnelected = true, client != nil
		return nil, api.ProjectView{}, err
	case errors.Is(err, errMovable):
		j.takesOver, j.hasAskedToMove = j.mayTakeOver(ctx), true
		return nil, api.ProjectView{}, nil
	case err != nil:
		return j.joinBySocket(ctx, err)
	case !running:
		readiness, err := j.newSpawner(j.Detach).Spawn(ctx)
		if err == nil && readiness.Outcome == OutcomeReady {
			j.hasSpawned, j.spawnedAt = true, time.Now()
		}
		if err != nil && j.takesOver && ctx.Err() == nil { // the running supervisor is used where it is
			j.takesOver, j.hasAskedSockets = false, false
			return nil, api.ProjectView{}, nil
		}
		return nil, api.ProjectView{}, err
	}
	if !j.OnlyRunning && !j.hasReplaced && j.replaceOlder(ctx) {
		j.hasReplaced = true
		return nil, api.ProjectView{}, nil
	}
	request := j.NewJoinRequest()
	request.Line = j.bumpedLine
	if j.ReleasedBySocket {
		request.Lease = j.wireLease()
	}
	if pidfd := j.openPIDFD(); pidfd != nil {
		defer pidfd.Close()
		request.Holder, request.PIDFD = j.wireLease(), pidfd
	}
	client, view, err := j.joinSupervisor(ctx, request, j.startedAt)
	if _, isUnreachable := errors.AsType[*UnreachableError](err); isUnreachable && ctx.Err() == nil {
		if j.OnlyRunning {
			return nil, view, errNotRunning
		}
		j.isUnreachable, j.hasAskedSockets, j.isUnelected = true, false, false
		return nil, view, nil
	}
	if err == nil && j.awaitsHandOver(ctx, view) && wait.Sleep(ctx, handOverPoll) {
		return nil, view, nil
	}
	return client, view, err
}

// openPIDFD returns a pidfd of the lease's process if the supervisor is in another PID namespace; else nil. Without one, the lease counts for a
// minute there.
func (j *joiner) openPIDFD() *os.File {
	if !j.isForeign || j.Lease.PID == 0 {
		return nil
	}
	pidfd, err := lockstate.OpenPIDFD(j.Lease.Process)
	if err != nil {
		return nil
	}
	return pidfd
}

// claimLease records the lease and reports whether a supervisor is running. The error is errElectionFree, a *leaseRefusal, or why the
// state could not be written.
func (j *joiner) claimLease(ctx context.Context) (running bool, err error) {
	lockCtx, cancel := j.lockContext(ctx)
	defer cancel()
	isNotAllowed, bumpedLine := false, uint64(0)
	state, err := j.Dir.Update(lockCtx, func(tx *lockstate.Tx) error {
		running, isNotAllowed, bumpedLine = tx.IsSupervisorRunning() || j.isUnelected, false, 0
		if running {
			isDropped, err := j.checkNamespaces(tx)
			if err != nil {
				return err
			}
			running = !isDropped
			j.hasAskedSockets = j.hasAskedSockets || isDropped
		}
		switch {
		case !running && !j.hasAskedSockets:
			return errElectionFree
		case !running && !j.Allowed:
			isNotAllowed = true
			tx.Down = tx.Down && !j.RestartStopped // once it is allowed, the next prompt starts it
			return nil
		case !running && tx.Down && j.hasClaimed:
			return &leaseRefusal{ErrDown}
		}
		if j.RestartStopped {
			tx.Down = false
			// One that the file still has may be older than its release, which a supervisor has yet to write.
			tx.RemoveLease(j.Lease.Kind, j.Lease.Process)
		}
		tx.PruneLeases()
		if j.Lease.Kind != "" {
			tx.AddLease(j.Lease)
		}
		if j.OnUpdate != nil {
			j.OnUpdate(tx, running)
			bumpedLine = tx.BumpedLine()
		}
		return nil
	})
	if isNotAllowed && (err == nil || errors.As(err, new(*lockstate.WriteError))) {
		return false, &leaseRefusal{&NotAllowedError{Config: j.Config}}
	}
	if j.hasClaimed = j.hasClaimed || err == nil; err == nil {
		j.bumpedLine = max(j.bumpedLine, bumpedLine)
	}
	if err == nil && !running && state.Down {
		return false, &leaseRefusal{ErrDown}
	}
	j.hasLockTimedOut = j.hasLockTimedOut || err != nil && lockCtx.Err() != nil && ctx.Err() == nil
	return running, err
}

// lockContext bounds the wait for the file lock: at first to half of the time left, because a supervisor can be joined without the
// lock; if none answers, to all of it.
func (j *joiner) lockContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if j.waitsForLock {
		return context.WithCancel(ctx)
	}
	return withHalfOfTimeLeft(ctx)
}

// withHalfOfTimeLeft returns a context that ends after half of the time until ctx's deadline, or with ctx if that has none.
func withHalfOfTimeLeft(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// joinBySocket joins with a lease that could not be written to the state file: a running supervisor records it. If none answers, the
// error is cause, which says why it could not be written.
func (j *joiner) joinBySocket(ctx context.Context, cause error) (*Client, api.ProjectView, error) {
	if refusal, ok := errors.AsType[*leaseRefusal](cause); ok {
		return nil, api.ProjectView{}, refusal.error
	}
	if ctx.Err() != nil {
		return nil, api.ProjectView{}, cause
	}
	client, _, err := j.askStatus(ctx, j.startedAt)
	switch {
	case err != nil:
		return nil, api.ProjectView{}, err
	case client != nil && !j.AnyNetwork && j.CheckNetwork() != nil:
		return nil, api.ProjectView{}, j.CheckNetwork()
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
		return nil, view, cause // an older release, which only counts leases in the file
	}
	return client, view, err
}

// wireLease is the lease for a JoinRequest; nil if the caller takes none.
func (j *joiner) wireLease() *api.Lease {
	if j.Lease.Kind == "" {
		return nil
	}
	lease := WireLease(j.Lease)
	return &lease
}

// joinSupervisor joins the supervisor at the first socket, of those at which it may listen, that answers for this project. startedAt is when the caller
// began to wait, for a *NoAnswerError.
func (p *Project) joinSupervisor(ctx context.Context, request api.JoinRequest, startedAt time.Time) (*Client, api.ProjectView, error) {
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
		if isSocketRefused(err) {
			return nil, view, p.newSandboxError(socket, err)
		}
		if _, isUnreachable := errors.AsType[*UnreachableError](err); !isUnreachable {
			return client, view, err
		}
	}
	return nil, api.ProjectView{}, err
}

// replaceOlder has a supervisor of an older release replaced by this program, and reports whether it was. A replacement that has failed
// is recorded in the state, and not tried again for a while.
func (p *Project) replaceOlder(ctx context.Context) bool {
	running := p.Dir.ReadOrZero().Supervisor
	exe, err := os.Executable()
	if err != nil || running == nil || len(running.ForeignNamespaces()) > 0 || running.Refuses(p.version) || !Supersedes(p.version, running.Version) {
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

// withoutRunVariable removes the variables that mark the processes of a tunnel: a supervisor that is started by a process of another
// project's tunnel must not be killed
// as an orphan of that tunnel.
func withoutRunVariable(env []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool {
		return strings.HasPrefix(entry, forwarder.RunVariable+"=") || strings.HasPrefix(entry, forwarder.TunnelVariable+"=")
	})
}

// NewJoinRequest returns a request with the environment variables that the supervisor may need.
func (p *Project) NewJoinRequest() api.JoinRequest {
	return api.JoinRequest{
		SSHAuthSock: p.Getenv("SSH_AUTH_SOCK"), Path: p.Getenv("PATH"),
		Level: p.logLevel,
	}
}

// ShellEnvironment returns the environment of the shell that runs this process, without what LocalPort has exported.
func ShellEnvironment() api.Environment {
	list := environ.Undo(environ.Parse(withoutRunVariable(os.Environ()))).List()
	env := make(api.Environment, len(list))
	for i, entry := range list {
		env[i] = []byte(entry)
	}
	return env
}

// ReloadIfChanged has a running supervisor reload its config unless that equals files, and updates the view. The error says why the
// supervisor keeps the previous config.
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
