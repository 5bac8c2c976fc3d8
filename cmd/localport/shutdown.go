package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/lockstate"
)

// A process that does not answer has termGrace to end after SIGTERM, and killTimeout after SIGKILL. maxKillRounds is how often what was
// started in the meantime is ended too.
const (
	termGrace     = time.Second
	killTimeout   = 5 * time.Second
	maxKillRounds = 5
)

// shutDown stops the project even if there are leases: it drops the start lease and stops the supervisor, gracefully if it answers.
// Processes that do not answer are terminated, with a message on w.
func (p commandProject) shutDown(ctx context.Context, w io.Writer) error {
	recorded := p.recordStop(ctx)
	isEnded := false
	for {
		running, _, err := p.FindSupervisor(ctx)
		if err == nil && running == nil {
			break
		}
		if err == nil {
			if err = p.endGracefully(ctx, running, recorded); isNoAnswer(err) {
				err = p.confirmStuck(err)
			}
		}
		switch {
		case isNoAnswer(err):
			if err := p.endUnresponsive(w, err); err != nil {
				return err
			}
			isEnded = true
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), client.CommandTimeout())
			defer cancel()
			continue
		case err == nil:
			isEnded = true
		case isUnreachable(err) && wait.Sleep(ctx, 5*time.Millisecond):
			// A supervisor without leases may end by itself during the request, which then fails: look again.
			continue
		default:
			return err
		}
		break
	}
	if recorded != nil { // what kept us from writing may have ended with the supervisor
		recorded = p.recordStop(ctx)
	}
	failed, isUnwritable := errors.AsType[*lockstate.WriteError](recorded)
	switch {
	case !isUnwritable:
		return recorded
	case failed.Fallback != "":
		fmt.Fprintf(w, "localport: warning: %v; recorded in %s instead that the project is stopped\n", failed, failed.Fallback)
	case p.Dir.ReadOrZero().Down: // which needs no room; the rest is written by whoever comes next
	case isEnded:
		fmt.Fprintf(w, "localport: warning: %v; the project is stopped, but the next prompt in it may start it again\n", failed)
	default:
		return recorded
	}
	return nil
}

// recordStop drops the start lease and has prompts leave the project down.
func (p commandProject) recordStop(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok { // the supervisor is asked even where somebody else holds the lock
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	_, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.RemoveLease(lockstate.StartLease, lockstate.Process{})
		tx.Down = true
		tx.Bump()
		tx.MarkFinal()
		return nil
	})
	return err
}

// endGracefully has the supervisor end. The start lease goes by socket where its release could not be recorded.
func (p commandProject) endGracefully(ctx context.Context, client *client.Client, recorded error) error {
	if recorded != nil {
		lease := api.Lease{Kind: api.StartLease}
		if err := client.Leave(ctx, api.LeaveRequest{Lease: &lease}); err != nil {
			return err
		}
	}
	return client.End(ctx)
}

// confirmStuck asks a supervisor that did not carry out a request in time for its status: one that answers is busy, and is not
// to be ended for that. The error is then the given one, and no client.NoAnswerError; nil if none runs any more.
func (p commandProject) confirmStuck(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	client, _, err := p.FindSupervisor(ctx)
	if isNoAnswer(err) || err == nil && client == nil {
		return err
	}
	return fmt.Errorf("the supervisor is busy: %w", errors.New(cause.Error()))
}

// isNoAnswer reports whether an error means that a process of the project lives and does not answer.
func isNoAnswer(err error) bool {
	_, ok := errors.AsType[*client.NoAnswerError](err)
	return ok || errors.Is(err, client.ErrNoAnswer)
}

func isUnreachable(err error) bool {
	_, ok := errors.AsType[*client.UnreachableError](err)
	return ok
}

// endUnresponsive terminates the project's processes, which did not answer, and removes what they left. The keeper is first: it would
// replace the supervisor.
func (p commandProject) endUnresponsive(w io.Writer, cause error) error {
	processes := p.Processes()
	if len(processes) == 0 {
		return cause
	}
	// A terminated process may have started another one meanwhile.
	for round := 0; len(processes) > 0 && round < maxKillRounds; round++ {
		for _, q := range processes {
			if err := terminateProcess(w, q); err != nil {
				return err
			}
		}
		processes = p.Processes()
	}
	return p.removeLeftovers()
}

// terminateProcess terminates a process and prints a message. A stopped one gets SIGKILL: it would see SIGTERM only when continued.
func terminateProcess(w io.Writer, q client.Process) error {
	steps := []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGTERM, termGrace}, {syscall.SIGKILL, killTimeout}}
	if q.IsStopped() {
		steps = steps[1:]
	}
	for _, step := range steps {
		if err := syscall.Kill(q.PID, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the %s (pid %d): %w", q.Role, q.PID, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), step.limit)
		err := lockstate.WaitExit(ctx, q.Process)
		cancel()
		if err == nil {
			output.Info(w, "stopped the %s (pid %d), which did not answer", q.Role, q.PID)
			return nil
		}
	}
	return fmt.Errorf("the %s (pid %d) is still running %v after SIGKILL", q.Role, q.PID, killTimeout)
}

// removeLeftovers removes what a supervisor leaves that did not end by itself, unless another one runs by now: its
// record, its sockets, and processes of its tunnels.
func (p commandProject) removeLeftovers() error {
	ctx, cancel := context.WithTimeout(context.Background(), client.PromptTimeout())
	defer cancel()
	var before *lockstate.Supervisor
	sockets, err := lockstate.RuntimeDir()
	if err != nil {
		return err
	}
	_, err = p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		if before = nil; tx.IsSupervisorRunning() || tx.Supervisor == nil {
			return nil
		}
		before, tx.Supervisor = tx.Supervisor, nil
		tx.Bump()
		if filepath.Dir(before.Socket) == sockets { // never remove an arbitrary path that a file names
			os.Remove(before.Socket)
		}
		return nil
	})
	if err != nil {
		return err
	}
	killOrphans := func(run string) {
		_, killErr := process.KillOrphans(run)
		err = errors.Join(err, killErr)
	}
	if before != nil && before.Run != "" {
		killOrphans(before.Run)
		if name := filepath.Base(before.Run); name == before.Run && name != ".." && name != "." {
			err = errors.Join(err, os.RemoveAll(filepath.Join(sockets, name)))
		}
	}
	// What was killed before it was recorded. That another project's cannot be removed is no failure of this one's stop.
	_ = lockstate.RemoveAbandonedRunDirs(killOrphans)
	return err
}
