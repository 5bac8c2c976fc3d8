package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/trust"
)

type execCmd struct {
	Service []string      `short:"s" placeholder:"SERVICE" help:"Wait only for these services."`
	Tag     []string      `aliases:"group" placeholder:"TAG" help:"Wait only for the services with this tag."`
	Wait    time.Duration `default:"30s" help:"How long to wait for the services to become healthy."`
	Command []string      `arg:"" optional:"" passthrough:"" help:"The command and its arguments, after --."`
}

// Help is the text below the usage.
func (execCmd) Help() string {
	return "With -C DIR the command runs in DIR. Your shell expands $VARIABLES before localport sets them; sh -c 'COMMAND' expands them later.\n\n" +
		"Example: localport exec -- sh -c 'psql \"$DATABASE_URL\"'\n\n" +
		"Exit codes: those of the command; 125 localport has failed, also for wrong usage; 126 the command cannot be run; 127 it is not found."
}

// Run takes a lease for its own pid, waits until the services are healthy, and replaces this process with the command, which keeps the
// pid and so the lease.
func (c execCmd) Run(ctx context.Context, a *app) error {
	argv := c.Command
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		return output.WithExitCode(output.Usage(errors.New("exec: no command after --")), output.ExitExecFailed)
	}
	if err := a.enterDir(); err != nil {
		return output.WithExitCode(err, output.ExitExecFailed)
	}
	path, err := findProgram(argv[0])
	if err != nil && argv[0] != "" {
		return a.explainServiceProgram(err, argv[0])
	}
	env, envErr := c.prepareEnv(ctx, a, argv)
	if err != nil {
		return err // after the message about the empty argument
	}
	if envErr != nil {
		return output.WithExitCode(envErr, output.ExitExecFailed)
	}
	err = syscall.Exec(path, argv, env)
	return cannotRun(path, err)
}

// enterDir makes the directory of -C the current one: the command runs as if it had been started there.
func (a *app) enterDir() error {
	switch {
	case a.dirFlag == "":
		return nil
	case a.dir == "":
		return &os.PathError{Op: "chdir", Path: a.dirFlag, Err: fs.ErrNotExist}
	}
	if err := os.Chdir(a.dir); err != nil {
		return err
	}
	return os.Setenv("PWD", a.dir)
}

// cannotRun is the error for a command that exists and cannot be executed.
func cannotRun(path string, err error) error {
	defect := process.FindDefect(path, "", err)
	err = fmt.Errorf("run %s: %w", path, err)
	if defect.Reason != "" {
		err = fmt.Errorf("%w: %s", err, defect.Reason)
	}
	if defect.Hint != "" {
		err = output.WithHint(err, defect.Hint)
	}
	return output.WithExitCode(err, output.ExitCannotRun)
}

// findProgram returns the path of a command. Its errors have the exit codes of a shell.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if notFound, ok := errors.AsType[*exec.Error](err); ok && !errors.Is(err, exec.ErrDot) {
		err = notFound.Err // which names the program as well
	}
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return path, nil
	case errors.Is(err, fs.ErrPermission):
		return "", cannotRun(name, err)
	}
	return "", output.WithExitCode(fmt.Errorf("run %s: %w", name, err), output.ExitCommandNotFound)
}

// prepareEnv joins the project, waits until the services are ready, and returns the command's environment.
func (c execCmd) prepareEnv(ctx context.Context, a *app, argv []string) ([]string, error) {
	p, err := a.findProject()
	if err != nil {
		return nil, err
	}
	lease := lockstate.Lease{Kind: lockstate.ExecLease, Process: lockstate.Self(), Dir: a.dir, Since: time.Now().UTC()}
	j, err := p.joinLatest(ctx, a, client.JoinOptions{Lease: lease, RestartStopped: true, Detach: true})
	if err != nil {
		return nil, err
	}
	view, err := c.waitHealthy(ctx, a, p, j)
	if err != nil {
		return nil, err
	}
	p.startStandby(a, lease)
	a.printWarnings(project.EnvAdvice(view.Env))
	before := environ.Parse(os.Environ())
	pairs, err := client.Variables(view, environ.Undo(before))
	if text, hint := explainEmptyArgument(argv, view.Env, before); text != "" {
		output.Info(a.err, "%s", text)
		fmt.Fprintln(a.err, "hint:", hint)
	}
	return environ.Enter(before, p.Config, pairs).List(), err
}

// joinLatest joins the project and applies the current files, if they are allowed. Otherwise a running supervisor is joined, which uses the
// previous ones; the user is told.
func (p commandProject) joinLatest(ctx context.Context, a *app, options client.JoinOptions) (*client.JoinedProject, error) {
	verdict, files, err := p.AskTrust()
	if err != nil {
		return nil, err
	}
	options.Allowed = verdict == trust.Allowed
	j, err := p.joinAndReport(ctx, a.err, options)
	if err != nil {
		return nil, err
	}
	if !options.Allowed {
		text := files.DescribeChange(j.View.Files) + `; still using the previous config until you run "localport allow"`
		if mistake := p.firstMistake(); mistake.Text != "" {
			text = mistake.Describe(true)
		}
		output.Info(a.err, "%s", text)
		return j, nil
	}
	return j, j.ReloadIfChanged(ctx, files)
}

// waitHealthy starts those of the selected services that are stopped or failed, and waits until all selected ones are ready, except
// those that are optional and not named. It returns the view after that.
func (c execCmd) waitHealthy(ctx context.Context, a *app, p commandProject, j *client.JoinedProject) (view api.ProjectView, err error) {
	status, err := j.Status(ctx)
	if err != nil {
		return view, err
	}
	names, err := selectServices(status.Services, c.Service, c.Tag)
	if err != nil {
		return view, err
	}
	awaited := awaitedServices(status.Services, names, c.Service)
	if len(names) > 0 {
		_, err = j.Act(ctx, api.ActionRequest{Action: api.ActionStart, Names: names, Spawned: j.Started})
		if _, isForeign := errors.AsType[*api.ForeignError](err); err != nil && !isForeign { // in a container, services that run can be used
			return view, err
		}
	}
	isReady := areReady(status.Services, names) && areReady(status.Services, awaited) // so that the start has changed nothing
	if isReady && hasAllHeld(j.View, status.Services) {
		return j.View, nil
	}
	if !isReady {
		waitCtx, cancel := context.WithTimeout(context.Background(), c.Wait)
		defer cancel()
		if status, err = p.waitReady(waitCtx, a.err, j.Client, awaited, c.Wait); err != nil {
			return view, err
		}
		reportNotAwaited(a.err, status, names, awaited)
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	defer cancel()
	return j.Join(ctx, p.NewJoinRequest())
}

// areReady reports whether all of the named services are ready.
func areReady(services []api.ServiceStatus, names []string) bool {
	return !slices.ContainsFunc(services, func(svc api.ServiceStatus) bool { return slices.Contains(names, svc.Name) && !svc.IsReady() })
}

// hasAllHeld reports whether a view, which is older than the status of the services, has the ports of all of them.
func hasAllHeld(view api.ProjectView, services []api.ServiceStatus) bool {
	return !slices.ContainsFunc(services, func(svc api.ServiceStatus) bool {
		return svc.Held && !svc.Reverse && !slices.ContainsFunc(view.Services, func(v api.ServiceView) bool { return v.Name == svc.Name && v.Held && v.Port == svc.Port })
	})
}
