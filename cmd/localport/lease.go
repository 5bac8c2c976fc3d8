package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

type leaseCmd struct {
	PID       string `name:"pid" env:"-" placeholder:"PID" help:"The process; without it, the one that runs this command: an agent, an editor, a shell."`
	Format    string `enum:"sh,fish,json,dotenv,github,docker" default:"sh" help:"Output format: ${enum}."`
	JSON      bool   `help:"Same as --format=json."`
	IfProject bool   `help:"Outside a project, print nothing and exit 0."`
}

// Help is the text below the usage.
func (leaseCmd) Help() string {
	return `The lease ends with the process.

  localport lease --format json
  localport lease --pid $$

Exit codes: 0 printed, with --if-project also outside a project; 1 no lease was taken, or a service has no variables: then those of the others are printed; 2 wrong usage; 3 the config is invalid; 4 it is not allowed.`
}

// Run takes a lease for a process and prints the variables. The lease ends with the process.
func (c leaseCmd) Run(ctx context.Context, a *app) error {
	find := leaseholder.Find
	if c.PID != "" {
		find = func() (lockstate.Process, error) { return leaseholder.Parse(c.PID) }
	}
	return envCmd{Format: c.Format, JSON: c.JSON}.printLeased(ctx, a, find, c.IfProject)
}

// printLeased takes a lease for the process that find returns, and prints the variables. In a process of a service it does nothing.
func (c envCmd) printLeased(ctx context.Context, a *app, find func() (lockstate.Process, error), isOptional bool) error {
	process, err := find()
	if errors.Is(err, leaseholder.ErrTunnel) {
		return nil
	}
	p, findErr := a.findProject()
	if _, isOutside := errors.AsType[*project.NotFoundError](findErr); isOutside && isOptional {
		return nil
	}
	if findErr != nil {
		return findErr
	}
	if err != nil {
		return output.WithHint(err, `run "localport lease --pid PID", or set `+leaseholder.PIDVariable+" to the process that needs the forwards")
	}
	view, status, err := p.joinForProcess(ctx, a, process)
	if err != nil {
		return err
	}
	return c.print(a, view, omittedServices(status))
}

// joinForProcess takes a lease for a process. The process's first lease starts a project that the user has stopped, as cd does; later ones
// do not: an editor that asks for the variables again must not undo `localport stop`.
func (p commandProject) joinForProcess(ctx context.Context, a *app, process lockstate.Process) (api.ProjectView, api.Status, error) {
	lease := lockstate.Lease{Kind: lockstate.ProcessLease, Process: process, Dir: a.dir, Since: time.Now().UTC()}
	isKnown := slices.ContainsFunc(p.Dir.ReadOrZero().Leases, func(l lockstate.Lease) bool { return l.Kind == lease.Kind && l.Process == process })
	j, err := p.joinLatest(ctx, a, client.JoinOptions{Lease: lease, RestartStopped: !isKnown})
	if err != nil {
		return api.ProjectView{}, api.Status{}, err
	}
	if !isKnown {
		p.startStandby(a, lease)
	}
	status, err := j.Status(ctx)
	if err == nil && !hasAllHeld(j.View, status.Services) { // a port was opened in between
		j.View, err = j.Join(ctx, p.NewJoinRequest())
	}
	return j.View, status, err
}
