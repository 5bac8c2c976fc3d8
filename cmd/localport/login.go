package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

type loginCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Services; if none is given, those that need attention, or whose hint names this command."`
}

// Help is the text below the usage.
func (loginCmd) Help() string {
	return `A login that several services share is run once. Then the services are waited for. A service that is healthy needs no login, and is left as it is; "localport restart" reconnects it.

Example: localport login db

Exit codes: 0 the services are healthy, or none needs a login; 1 otherwise, also if the project is not running; 2 wrong usage; 3 the config is invalid; 4 it is not allowed.`
}

// Run runs the login of each service in this terminal, a shared login only once, and waits until the services have retried.
func (c loginCmd) Run(a *app, p commandProject) error {
	parsed, err := p.parseAllowed() // a login runs programs that files of the project may name
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	findCtx, cancel := context.WithTimeout(ctx, client.CommandTimeout())
	defer cancel()
	if err := p.RequireControl(findCtx); err != nil {
		return err
	}
	running, status, err := p.FindSupervisor(findCtx)
	if err != nil {
		return err
	}
	if running == nil {
		if _, err := selectServices(declaredServices(parsed), c.Services, nil); err != nil {
			return err
		}
		return output.WithHint(errors.New("the project is not running, so no service needs a login"), "localport start")
	}
	if len(c.Services) == 0 {
		before := status.Supervisor
		if status, err = p.waitForFirstAttempts(ctx, a, *running, status); ctx.Err() != nil {
			return errInterrupted
		} else if err != nil {
			return err
		}
		if now := status.Supervisor; now == nil { // of an older release
			status.Supervisor = before
		} else if before == nil || now.Run != before.Run {
			running = &client.Client{Socket: now.Socket}
		}
	}
	names, err := c.selectNames(status)
	if err != nil {
		return err
	}
	if starting := firstAttempts(status); len(names) == 0 && len(starting) > 0 {
		output.Info(a.err, "no service needs a login yet; %s did not start within %v", strings.Join(starting, ", "), startTimeout)
		return nil
	}
	if len(names) == 0 {
		output.Info(a.err, "no service needs a login")
		return nil
	}
	if names = p.withoutHealthy(a, parsed, status, names); len(names) == 0 {
		return nil
	}
	var pending []string
	if len(c.Services) == 0 {
		pending = pendingServices(status)
	}
	groups := groupLogins(parsed, names, pending)
	names = nil
	for _, group := range groups {
		names = append(names, group.names...)
		if err := group.run(ctx, a, p, running, status.Supervisor); err != nil {
			return err
		}
	}
	_, err = p.waitAndPrint(ctx, a, *running, names, names)
	return err
}

// withoutHealthy returns the names of the services for which a login is of use, and says of the others that they need none. Of a service that is idle, the
// next client may need a login.
func (p commandProject) withoutHealthy(a *app, parsed *project.Project, status api.Status, names []string) (useful []string) {
	for _, name := range names {
		i := slices.IndexFunc(status.Services, func(svc api.ServiceStatus) bool { return svc.Name == name })
		svc, isConfigured := parsed.FindService(name)
		if i < 0 || !isConfigured {
			useful = append(useful, name)
			continue
		}
		state := status.Services[i].EffectiveState()
		hasLogin := supervisor.Login(svc, parsed.Root, nil).Name != ""
		switch {
		case !hasLogin && state == forwarder.Idle:
			output.Info(a.err, "%s is idle and needs no login now; its tunnel opens with the first connection", name)
		case state == forwarder.Healthy:
			output.Info(a.err, `%s needs no login: it is %s; "localport restart %s" reconnects it`, name, state, name)
		case !hasLogin && state != forwarder.NeedsAttention:
			output.Info(a.err, `%s needs no login; "localport why %s" says why it is not healthy`, name, name)
		default:
			useful = append(useful, name)
		}
	}
	return useful
}

// selectNames returns the services named on the command line or, without any, those that need attention, and those that are tried again and whose
// hint names this command without a service: their login program waits for the user.
func (c loginCmd) selectNames(status api.Status) ([]string, error) {
	if len(c.Services) > 0 {
		return selectServices(status.Services, c.Services, nil)
	}
	var names []string
	for _, svc := range status.Services {
		if svc.State == forwarder.NeedsAttention || isRetried(svc.State) && strings.Contains(svc.Hint, `"localport login"`) {
			names = append(names, svc.Name)
		}
	}
	return names, nil
}

// isRetried reports whether a service in this state is retried by itself, by this project.
func isRetried(state forwarder.State) bool { return !state.IsSettled() && state != forwarder.Shared }

// waitForFirstAttempts returns the status when no first attempt goes on any more, which may show that a login is needed. After startTimeout it returns the
// last one that is known.
func (p commandProject) waitForFirstAttempts(ctx context.Context, a *app, running client.Client, status api.Status) (api.Status, error) {
	starting := firstAttempts(status)
	if len(starting) == 0 {
		return status, nil
	}
	output.Info(a.err, "waiting for %s to start", strings.Join(starting, ", "))
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	report := newWaitReport(a.err, startTimeout)
	stopReport := report.start()
	defer stopReport("")
	hasStarted := func(s api.Status) bool { return len(firstAttempts(s)) == 0 }
	last, err := p.watchUntil(ctx, running, hasStarted, func(s api.Status) { report.update(waitReasons(s, firstAttempts(s))) })
	if ctx.Err() != nil && last.Config != "" {
		err = nil
	}
	return last, err
}

// firstAttempts returns the services that are starting, and have met no error yet. Those that have are retried by themselves.
func firstAttempts(status api.Status) []string {
	var names []string
	for _, svc := range status.Services {
		if svc.State == forwarder.Starting && svc.LastError == "" {
			names = append(names, svc.Name)
		}
	}
	return names
}

// pendingServices returns the services whose attempts go on: they may need a login in a moment.
func pendingServices(status api.Status) []string {
	var names []string
	for _, svc := range status.Services {
		if svc.State == forwarder.Starting || svc.State == forwarder.Restarting {
			names = append(names, svc.Name)
		}
	}
	return names
}

// loginGroup is a login and the services that share it.
type loginGroup struct {
	forwarder.Login
	names []string
}

// groupLogins returns the logins of the named services, in the order of the config. Each includes those of the pending services that share it.
func groupLogins(parsed *project.Project, names, pending []string) []*loginGroup {
	env := make(environ.Env)
	maps.Copy(env, parsed.DotEnv)
	maps.Copy(env, environ.Undo(environ.Parse(os.Environ())))
	var groups []*loginGroup
	byKey := make(map[string]*loginGroup)
	for _, svc := range parsed.Services {
		if !slices.Contains(names, svc.Name) {
			continue
		}
		group := &loginGroup{Login: supervisor.Login(svc, parsed.Root, env.List())}
		if byKey[group.Key] == nil {
			byKey[group.Key] = group
			groups = append(groups, group)
		}
		byKey[group.Key].names = append(byKey[group.Key].names, svc.Name)
	}
	for _, svc := range parsed.Services {
		if !slices.Contains(pending, svc.Name) {
			continue
		}
		if group := byKey[supervisor.Login(svc, parsed.Root, env.List()).Key]; group != nil && group.Name != "" {
			group.names = append(group.names, svc.Name)
		}
	}
	return groups
}

// run runs a login and sends its result to the supervisor.
func (l *loginGroup) run(ctx context.Context, a *app, p commandProject, running *client.Client, supervisor *api.SupervisorStatus) error {
	if l.UsesAskSocket {
		return l.runWithQuestions(ctx, a, p, running, supervisor)
	}
	var credential []byte
	done := false
	if l.Run != nil {
		output.Info(a.err, "logging in to %s for %s", l.Name, strings.Join(l.names, ", "))
		var err error
		if credential, done, err = l.Run(ctx, forwarder.Terminal{In: os.Stdin, Out: a.out.File(), Err: a.err.File()}); err != nil {
			return fmt.Errorf("log in for %s: %w", strings.Join(l.names, ", "), err)
		}
	}
	switch {
	case done:
	case l.Name == "":
		output.Info(a.err, "no login is configured for %s; trying again", strings.Join(l.names, ", "))
	default:
		output.Info(a.err, "no login helper is configured for %s; retrying with the current credentials", strings.Join(l.names, ", "))
	}
	return running.Login(ctx, api.LoginRequest{Names: l.names, Credential: credential, Environment: client.ShellEnvironment()})
}
