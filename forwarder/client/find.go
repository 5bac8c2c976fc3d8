package client

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// SupervisorClient returns a client of the project's supervisor; nil if none runs. The error is as for FindSupervisor.
func (p *Project) SupervisorClient(ctx context.Context) (*Client, error) {
	client, _, err := p.FindSupervisor(ctx)
	return client, err
}

// FindSupervisor returns the client of the project's supervisor and the status that it answered with; a nil client if none is
// running. The file lock is taken only if no supervisor answers, to check the election: a process that holds that lock for long must not keep a
// command from a running supervisor. The error is a *NoAnswerError if a supervisor is running and does not answer, a *SandboxError if it cannot be
// asked from here.
func (p *Project) FindSupervisor(ctx context.Context) (*Client, api.Status, error) {
	startedAt := time.Now()
	for pause := (wait.Backoff{First: 5 * time.Millisecond, Max: 50 * time.Millisecond}); ; {
		client, status, err := p.askStatus(ctx, startedAt)
		sandbox, isSandboxed := errors.AsType[*SandboxError](err)
		if client != nil || err != nil && !isSandboxed {
			return client, status, err
		}
		elected, err := p.isElectionHeld(ctx)
		if err != nil || !elected {
			return nil, api.Status{}, err
		}
		if isSandboxed {
			return nil, api.Status{}, sandbox
		}
		if err := p.checkSocketIsVisible(startedAt); err != nil {
			return nil, api.Status{}, err
		}
		if time.Since(startedAt) > keeperCheckInterval {
			if err := p.stoppedKeeperError(); err != nil {
				return nil, api.Status{}, err
			}
		}
		// Elected, but not listening yet, or shutting down: there is no event to wait for.
		if !wait.Sleep(ctx, pause.Next()) {
			return nil, api.Status{}, p.newNoAnswerError(time.Since(startedAt))
		}
	}
}

// hasConfig reports whether config, from a supervisor's answer, is this project's config. In JSON a byte that is not UTF-8 has become U+FFFD.
func (p *Project) hasConfig(config string) bool { return config == string([]rune(p.Config)) }

// askStatus requests the status at each socket at which the project's supervisor may listen. The client is nil if none of them is this
// project's. startedAt is when the caller began to wait, for a *NoAnswerError.
func (p *Project) askStatus(ctx context.Context, startedAt time.Time) (*Client, api.Status, error) {
	for _, socket := range p.Dir.Sockets() {
		client := &Client{Socket: socket}
		status, err := p.requestStatus(ctx, client)
		if err == nil && p.hasConfig(status.Config) {
			status.Project, status.Config = p.Root, p.Config
			return client, status, nil
		}
		switch {
		case errors.As(err, new(*NoAnswerError)), errors.As(err, new(*RefusedError)):
			return nil, status, err
		case errors.Is(err, ErrNoAnswer):
			return nil, status, p.newNoAnswerError(time.Since(startedAt))
		case isSocketRefused(err):
			return nil, status, p.newSandboxError(socket, err)
		}
	}
	return nil, api.Status{}, nil
}

// isSocketRefused reports whether the system does not let this process use unix sockets, or this one: seccomp, Landlock, RestrictAddressFamilies=.
func isSocketRefused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAFNOSUPPORT)
}

func (p *Project) newSandboxError(socket string, err error) error {
	if unreachable, ok := errors.AsType[*UnreachableError](err); ok {
		err = unreachable.Err
	}
	return &SandboxError{Socket: socket, Err: err, Recorded: p.Dir.ReadOrZero().Supervisor}
}

// foreignStartTime is how long a supervisor in another namespace may have no socket in a directory that is visible here: it is starting or ending.
const foreignStartTime = time.Second

// checkSocketIsVisible returns a *SandboxError if a running supervisor, in other namespaces, has its socket where this process sees none. It has
// been waited for since startedAt.
func (p *Project) checkSocketIsVisible(startedAt time.Time) error {
	recorded := p.Dir.ReadOrZero().Supervisor
	if recorded == nil || len(recorded.ForeignNamespaces()) == 0 {
		return nil // if the socket was removed, the supervisor binds it again
	}
	for _, socket := range p.Dir.Sockets() {
		if _, err := os.Lstat(socket); err == nil {
			return nil
		}
	}
	if _, err := os.Lstat(filepath.Dir(recorded.Socket)); err == nil && time.Since(startedAt) < foreignStartTime {
		return nil
	}
	return p.newSandboxError(recorded.Socket, nil)
}

// keeperCheckInterval is how long an answer is awaited before each check for a stopped keeper.
const keeperCheckInterval = 500 * time.Millisecond

// requestStatus asks for the status. The error is a *NoAnswerError as soon as a stopped keeper is found.
func (p *Project) requestStatus(ctx context.Context, client *Client) (api.Status, error) {
	askCtx, cancel := context.WithCancelCause(ctx)
	answered := make(chan struct{})
	var checker sync.WaitGroup
	checker.Go(func() {
		for !wait.IsClosedWithin(keeperCheckInterval, answered) {
			if err := p.stoppedKeeperError(); err != nil {
				cancel(err)
				return
			}
		}
	})
	status, err := client.Status(askCtx)
	close(answered)
	checker.Wait()
	if cause := context.Cause(askCtx); err != nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	cancel(nil)
	return status, err
}

// stoppedKeeperError is a *NoAnswerError if the supervisor has exited and its keeper, whose copies of the listeners hold the clients, is
// stopped. It is nil otherwise, and on systems without /proc.
func (p *Project) stoppedKeeperError() error {
	processes := p.Processes()
	if len(processes) == 0 {
		return nil
	}
	last := processes[len(processes)-1]
	if last.Role != KeeperRole || !last.IsStopped() {
		return nil
	}
	return &NoAnswerError{Role: last.Role, PID: last.PID, Stopped: true}
}

// isElectionHeld reports whether a process holds the election.
func (p *Project) isElectionHeld(ctx context.Context) (elected bool, err error) {
	_, err = p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		elected = tx.IsSupervisorRunning()
		return nil
	})
	return elected, err
}

// ExplainNoAnswer returns a *NoAnswerError, which names the process, if err is that a supervisor did not answer since startedAt; else err.
func (p *Project) ExplainNoAnswer(err error, startedAt time.Time) error {
	if _, named := errors.AsType[*NoAnswerError](err); named || !errors.Is(err, ErrNoAnswer) {
		return err
	}
	return p.newNoAnswerError(time.Since(startedAt))
}

// newNoAnswerError makes an error that names the process that did not answer.
func (p *Project) newNoAnswerError(waited time.Duration) error {
	e := &NoAnswerError{Role: SupervisorRole, Waited: p.AnswerTimeout}
	if waited < p.AnswerTimeout/2 || waited > 2*p.AnswerTimeout { // another timeout has ended the wait
		unit := 100 * time.Millisecond
		if waited < unit {
			unit = time.Millisecond
		}
		e.Waited = max(unit, waited.Round(unit))
	}
	recorded := p.Dir.ReadOrZero().Supervisor
	if recorded != nil && recorded.IsForeign() {
		e.ForeignSocket = recorded.Socket
		return e
	}
	if recorded != nil && p.isSupervisor(recorded.Process) {
		e.PID = recorded.PID // found without reading every process of the machine: a prompt waits
	} else if processes := p.Processes(); len(processes) > 0 {
		// A running supervisor has to answer; without one, the keeper has to start the next.
		last := processes[len(processes)-1]
		e.Role, e.PID = last.Role, last.PID
	}
	return e
}
