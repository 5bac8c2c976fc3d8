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

// A process that does not answer has termGrace to end after SIGTERM, and killTimeout after SIGKILL. maxKillRounds is how often
// processes that were started in the meantime are looked for.
const (
	termGrace     = time.Second
	killTimeout   = 5 * time.Second
	maxKillRounds = 5
)

// shutDown stops the project even if there are leases: it drops the start lease and stops the supervisor, gracefully if it answers, and
// those that are draining. Processes that do not answer are terminated, with a message on w.
func (p commandProject) shutDown(ctx context.Context, w io.Writer) error {
	err := p.CheckControl(ctx)
	switch {
	case !mayEnd(err):
		return err
	case err != nil:
		return p.shutDownBelow(ctx, err)
	}
	if err := p.checkSandbox(ctx); err != nil { // nothing is recorded that the supervisor does not carry out
		return err
	}
	return errors.Join(p.shutDownSupervisor(ctx, w), p.EndDraining())
}

// sandboxCheckTime is how long checkSandbox waits for a supervisor that does not answer: that its socket cannot be used is known at once.
const sandboxCheckTime = 200 * time.Millisecond

// checkSandbox returns a *client.SandboxError if this process cannot use the supervisor's socket.
func (p commandProject) checkSandbox(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sandboxCheckTime)
	defer cancel()
	if _, _, err := p.FindSupervisor(ctx); isSandboxError(err) {
		return err
	}
	return nil
}

// mayEnd reports whether this process may end a project's supervisor, given the result of CheckControl: not one outside of this container or
// sandbox, but one in a PID namespace below this one.
func mayEnd(err error) bool {
	foreign, ok := errors.AsType[*api.ForeignError](err)
	return err == nil || ok && foreign.IsBelow
}

// shutDownBelow ends a supervisor, and its keeper, in a PID namespace below this one, from which no request can be told from one of another
// namespace. cause is returned if its processes are not found.
func (p commandProject) shutDownBelow(ctx context.Context, cause error) error {
	if err := p.recordStop(ctx, false); err != nil {
		return err
	}
	processes := p.Processes()
	if len(processes) == 0 {
		return cause
	}
	// A keeper that gets its signal after the supervisor has ended may have started another one.
	for round := 0; len(processes) > 0 && round < maxKillRounds; round++ {
		for _, q := range processes { // all at once: then the keeper does not restart the supervisor, as a rule
			if err := syscall.Kill(q.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop the %s (pid %d): %w", q.Role, q.PID, err)
			}
		}
		for _, q := range processes {
			if err := lockstate.WaitExit(ctx, q.Process); err != nil {
				return fmt.Errorf("the %s (pid %d) is still running after SIGTERM", q.Role, q.PID)
			}
		}
		processes = p.Processes()
	}
	return p.removeLeftovers()
}

// shutDownAndWait is shutDownSupervisor for a project of this command alone, and returns when the supervisor and the keeper have exited.
func (p commandProject) shutDownAndWait(ctx context.Context, w io.Writer) error {
	processes := p.Processes()
	if err := p.shutDownSupervisor(ctx, w); err != nil && !isUnreachableError(err) {
		return err
	}
	for _, q := range processes {
		_ = lockstate.WaitExit(ctx, q.Process) // an error means that ctx has ended first
	}
	return nil
}

func (p commandProject) shutDownSupervisor(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), client.CommandTimeout())
	defer cancel()
	recordErr := p.recordStop(ctx, false)
	hasEnded := false
	for {
		running, _, err := p.FindSupervisor(ctx)
		if err == nil && running == nil {
			break
		}
		if err == nil {
			if err = p.endGracefully(ctx, running, recordErr); isNoAnswerError(err) {
				err = p.confirmStuck(err)
			}
		}
		switch {
		case isNoAnswerError(err):
			if err := p.endUnresponsive(w, err); err != nil {
				return err
			}
			hasEnded = true
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), client.CommandTimeout())
			defer cancel()
			continue
		case err == nil:
			if hasEnded = true; p.runsAlthoughDown(ctx) {
				continue // the one that has ended was superseded, and did not know it yet
			}
		case isUnreachableError(err) && wait.Sleep(ctx, 5*time.Millisecond):
			// A supervisor without leases may end by itself during the request, which then fails: check again.
			continue
		default:
			return err
		}
		break
	}
	if recordErr != nil { // what prevented the write may have ended with the supervisor
		recordErr = p.recordStop(ctx, hasEnded)
	}
	writeErr, isUnwritable := errors.AsType[*lockstate.WriteError](recordErr)
	switch {
	case !isUnwritable:
		return recordErr
	case writeErr.Fallback != "":
		fmt.Fprintf(w, "localport: warning: %v; recorded in %s instead that the project is stopped\n", writeErr, writeErr.Fallback)
	case p.Dir.ReadOrZero().Down: // the down file needs no disk space; the next command that can write the state adds the rest
	case hasEnded:
		fmt.Fprintf(w, "localport: warning: %v; the project is stopped, but the next prompt in it may start it again\n", writeErr)
	default:
		return recordErr
	}
	return nil
}

// runsAlthoughDown reports whether a supervisor runs although the project is stopped and nobody has started it since. False if that cannot
// be found out.
func (p commandProject) runsAlthoughDown(ctx context.Context) bool {
	isRunning := false
	_, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		isRunning = tx.Down && tx.IsSupervisorRunning()
		return nil
	})
	return err == nil && isRunning
}

// recordStop drops the start lease and records that prompts must not start the project again. If the supervisor has ended and another one
// runs, somebody has started the project since: nothing is recorded.
func (p commandProject) recordStop(ctx context.Context, hasEnded bool) error {
	if deadline, ok := ctx.Deadline(); ok { // leave time to ask the supervisor, in case another process holds the lock
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	_, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		if hasEnded && tx.IsSupervisorRunning() {
			return nil
		}
		tx.RemoveLease(lockstate.StartLease, lockstate.Process{})
		tx.Down = true
		tx.Bump()
		tx.MarkFinal()
		return nil
	})
	return err
}

// endGracefully asks the supervisor to end. If the release of the start lease could not be recorded (recordErr), it is sent through the
// socket first.
func (p commandProject) endGracefully(ctx context.Context, client *client.Client, recordErr error) error {
	if recordErr != nil {
		lease := api.Lease{Kind: api.StartLease}
		if _, err := client.Leave(ctx, api.LeaveRequest{Lease: &lease}); err != nil {
			return err
		}
	}
	return client.End(ctx)
}

// confirmStuck asks a supervisor that did not carry out a request in time for its status. One that answers is only busy, and must not be
// terminated: the error then has the text of cause, but is no client.NoAnswerError. It is nil if no supervisor is running any more.
func (p commandProject) confirmStuck(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	client, _, err := p.FindSupervisor(ctx)
	if isNoAnswerError(err) || err == nil && client == nil {
		return err
	}
	return fmt.Errorf("the supervisor is busy: %w", errors.New(cause.Error()))
}

// isNoAnswerError reports whether an error means that a process of the project is alive but does not answer.
func isNoAnswerError(err error) bool {
	_, ok := errors.AsType[*client.NoAnswerError](err)
	return ok || errors.Is(err, client.ErrNoAnswer)
}

func isSandboxError(err error) bool {
	_, ok := errors.AsType[*client.SandboxError](err)
	return ok
}

func isUnreachableError(err error) bool {
	_, ok := errors.AsType[*client.UnreachableError](err)
	return ok
}

// endUnresponsive terminates the project's processes, which did not answer, and removes what they have left behind. The keeper is first,
// because it would replace the supervisor.
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

// removeLeftovers removes what a terminated supervisor has left behind, unless another one is running by now: its record, its sockets, and
// the processes of its tunnels.
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
	if before != nil {
		_, err = process.KillOrphans(before.Run)
		err = errors.Join(err, lockstate.RemoveRunDir(before.Run))
	}
	// Supervisors that were killed before they were recorded. If those of another project cannot be removed, this stop has still
	// succeeded.
	_ = lockstate.RemoveAbandonedRunDirs(func(run string) { _, _ = process.KillOrphans(run) })
	return err
}
