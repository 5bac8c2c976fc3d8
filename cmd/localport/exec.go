package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/trust"
)

type execCmd struct {
	Service []string      `short:"s" placeholder:"SERVICE" help:"Wait only for these services."`
	Tag     []string      `aliases:"group" placeholder:"TAG" help:"Wait only for the services with this tag."`
	Wait    time.Duration `default:"30s" help:"How long to wait for the services to become healthy."`
	Command []string      `arg:"" optional:"" passthrough:"" help:"The command and its arguments, after --."`
}

// Run takes a lease for its own pid, waits until the services are healthy, and becomes the command.
func (c execCmd) Run(a *app) error {
	argv := c.Command
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		return output.Coded(output.Usage(errors.New("exec: no command after --")), output.ExitExec)
	}
	path, err := runnable(argv[0])
	if err != nil {
		return err
	}
	env, err := c.prepare(a)
	if err != nil {
		return output.Coded(err, output.ExitExec)
	}
	err = syscall.Exec(path, argv, env)
	return output.Coded(fmt.Errorf("run %s: %w", path, err), output.ExitCannotRun)
}

// runnable finds the command before anything is waited for.
func runnable(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return path, nil
	case errors.Is(err, fs.ErrPermission):
		return "", output.Coded(fmt.Errorf("run %s: %w", name, err), output.ExitCannotRun)
	}
	return "", output.Coded(fmt.Errorf("run %s: %w", name, err), output.ExitNoCommand)
}

// prepare brings the services up and returns the command's environment.
func (c execCmd) prepare(a *app) ([]string, error) {
	p, err := a.here()
	if err != nil {
		return nil, err
	}
	verdict, files, err := p.Ask()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.Patience())
	defer cancel()
	j, err := p.Join(ctx, client.Entry{
		Lease: lockstate.Lease{Kind: lockstate.ExecLease, Process: lockstate.Self(), Dir: a.dir, Since: time.Now().UTC()},
		Heal:  true, Allowed: verdict == trust.Allowed, Detach: true,
	})
	if err != nil {
		return nil, err
	}
	if verdict != trust.Allowed {
		output.Info(a.err, "the config in %s changed; using the previous one until you run \"localport allow\"", p.Root)
	} else if err := j.Current(ctx, files); err != nil {
		return nil, err
	}
	if err := c.await(ctx, p, j); err != nil {
		return nil, err
	}
	ctx, cancel = context.WithTimeout(context.Background(), client.Patience())
	defer cancel()
	view, err := j.Join(ctx, p.Session())
	if err != nil {
		return nil, err
	}
	was := environ.Parse(os.Environ())
	pairs, err := client.Variables(view, environ.Undo(was))
	return environ.Enter(was, p.Config, pairs).List(), err
}

// await starts what was stopped or has failed and waits until everything asked for is healthy.
func (c execCmd) await(ctx context.Context, p here, j *client.Joined) error {
	status, err := j.Status(ctx)
	if err != nil {
		return err
	}
	names, err := choose(status.Services, c.Service, c.Tag)
	if err != nil || len(names) == 0 {
		return err
	}
	if _, err := j.Act(ctx, api.ActRequest{Action: api.Start, Names: names, Spawned: j.Started}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Wait)
	defer cancel()
	_, err = p.waitFor(ctx, j.Client, names, c.Wait)
	return err
}
