package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// SupervisorClient is the client of the project's supervisor; nil if none runs.
func (p *Project) SupervisorClient(ctx context.Context) (*Client, error) {
	client, _, err := p.FindSupervisor(ctx)
	return client, err
}

// FindSupervisor returns the client of the project's supervisor and the status that it answered with; a nil client if none runs.
// The file lock is taken only when nobody answers, to look at the election: whoever holds that lock for long must not keep
// a command from a supervisor that lives. The error is a *NoAnswerError if one lives and does not answer.
func (p *Project) FindSupervisor(ctx context.Context) (*Client, api.Status, error) {
	began := time.Now()
	for pause := (wait.Backoff{First: 5 * time.Millisecond, Max: 50 * time.Millisecond}); ; {
		client, status, err := p.askStatus(ctx)
		if client != nil || err != nil {
			return client, status, err
		}
		elected, err := p.isElectionHeld(ctx)
		if err != nil || !elected {
			return nil, api.Status{}, err
		}
		if time.Since(began) > answerTime {
			if err := p.stoppedKeeper(); err != nil {
				return nil, api.Status{}, err
			}
		}
		// Elected, but not listening yet, or just ending: nothing tells when that is over.
		if !wait.Sleep(ctx, pause.Next()) {
			return nil, api.Status{}, p.newNoAnswerError(time.Since(began))
		}
	}
}

// askStatus asks for the status wherever the project's supervisor may listen. The client is nil if nobody listens there for this
// project.
func (p *Project) askStatus(ctx context.Context) (*Client, api.Status, error) {
	began := time.Now()
	for _, socket := range p.Dir.Sockets() {
		client := &Client{Socket: socket}
		status, err := p.statusOf(ctx, client)
		if err == nil && status.Config == p.Config {
			return client, status, nil
		}
		if _, stopped := errors.AsType[*NoAnswerError](err); stopped {
			return nil, status, err
		}
		if errors.Is(err, ErrNoAnswer) {
			return nil, status, p.newNoAnswerError(time.Since(began))
		}
		if _, refused := errors.AsType[*RefusedError](err); refused {
			return nil, status, err
		}
	}
	return nil, api.Status{}, nil
}

// answerTime is how long an answer is waited for before it is looked, and then looked again, whether there can be one.
const answerTime = 500 * time.Millisecond

// statusOf asks for the status. The error is a *NoAnswerError as soon as it is plain that none will come.
func (p *Project) statusOf(ctx context.Context, client *Client) (api.Status, error) {
	asking, cancel := context.WithCancelCause(ctx)
	answered := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for !wait.IsClosedWithin(answerTime, answered) {
			if err := p.stoppedKeeper(); err != nil {
				cancel(err)
				return
			}
		}
	})
	status, err := client.Status(asking)
	close(answered)
	looking.Wait()
	if cause := context.Cause(asking); err != nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	cancel(nil)
	return status, err
}

// stoppedKeeper is why nobody can answer: the supervisor has died, and the keeper, in whose copies of the listeners clients wait,
// is stopped. Nil where that is not so, or where the system does not tell.
func (p *Project) stoppedKeeper() error {
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

// isElectionHeld reports whether somebody holds the election.
func (p *Project) isElectionHeld(ctx context.Context) (elected bool, err error) {
	_, err = p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		elected = tx.Alive()
		return nil
	})
	return elected, err
}

// ExplainNoAnswer names the process where the error is that a supervisor did not answer.
func (p *Project) ExplainNoAnswer(err error, began time.Time) error {
	if _, named := errors.AsType[*NoAnswerError](err); named || !errors.Is(err, ErrNoAnswer) {
		return err
	}
	return p.newNoAnswerError(time.Since(began))
}

// newNoAnswerError names the process that was waited for.
func (p *Project) newNoAnswerError(waited time.Duration) error {
	e := &NoAnswerError{Role: SupervisorRole, Waited: p.AnswerTimeout}
	if waited < p.AnswerTimeout/2 || waited > 2*p.AnswerTimeout { // not what the limit was about
		e.Waited = waited.Round(100 * time.Millisecond)
	}
	if recorded := p.Dir.Peek().Supervisor; recorded != nil && p.isSupervisor(recorded.Process) {
		e.PID = recorded.PID // found without a look at every process of the machine: a prompt waits
	} else if processes := p.Processes(); len(processes) > 0 {
		// A supervisor that lives is the one to answer; else it is the keeper's to start the next.
		last := processes[len(processes)-1]
		e.Role, e.PID = last.Role, last.PID
	}
	return e
}
