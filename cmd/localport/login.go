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
	"github.com/localport-sh/localport/project/trust"
)

type loginCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Services; if none is given, those that need attention."`
}

// Run goes through the logins of services on this terminal, each once, and has the services tried again.
func (c loginCmd) Run(a *app) error {
	p, err := a.here()
	if err != nil {
		return err
	}
	verdict, files, err := p.Ask()
	if err != nil {
		return err
	}
	if verdict != trust.Allowed { // a kubeconfig in the project names a program that would be run
		return &client.NotAllowedError{Config: p.Config}
	}
	parsed, err := p.parse(files)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	finding, cancel := context.WithTimeout(ctx, client.Patience())
	defer cancel()
	client, status, err := p.Find(finding)
	if err != nil {
		return err
	}
	if client == nil {
		return output.Hinted(errors.New("the project is not running, so no service needs a login"), "localport start")
	}
	names, err := c.meant(status)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		output.Info(a.err, "no service needs a login")
		return nil
	}
	for _, group := range logins(parsed, names) {
		if err := group.goThrough(ctx, a, p, client, status.Supervisor); err != nil {
			return err
		}
	}
	return p.show(ctx, a, *client, names)
}

// meant are the services that were named, or those that need attention.
func (c loginCmd) meant(status api.Status) ([]string, error) {
	if len(c.Services) > 0 {
		return choose(status.Services, c.Services, nil)
	}
	var names []string
	for _, svc := range status.Services {
		if svc.State == forwarder.NeedsAttention {
			names = append(names, svc.Name)
		}
	}
	return names, nil
}

// login is one that several services wait for.
type login struct {
	forwarder.Login
	names []string
}

// logins are those of the named services, in the order of the config.
func logins(parsed *project.Project, names []string) []*login {
	env := make(environ.Env)
	maps.Copy(env, parsed.DotEnv)
	maps.Copy(env, environ.Undo(environ.Parse(os.Environ())))
	var all []*login
	known := make(map[string]*login)
	for _, svc := range parsed.Services {
		if !slices.Contains(names, svc.Name) {
			continue
		}
		one := &login{Login: supervisor.Login(svc, parsed.Root, env.List())}
		if known[one.Key] == nil {
			known[one.Key] = one
			all = append(all, one)
		}
		known[one.Key].names = append(known[one.Key].names, svc.Name)
	}
	return all
}

// goThrough runs a login and hands over what came of it.
func (l *login) goThrough(ctx context.Context, a *app, p here, client *client.Client, supervisor *api.SupervisorStatus) error {
	if l.Asks {
		return l.askFor(ctx, a, p, client, supervisor)
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
	if !done {
		output.Info(a.err, "no login helper is configured for %s; retrying with the current credentials", strings.Join(l.names, ", "))
	}
	return client.Login(ctx, api.LoginRequest{Names: l.names, Credential: credential})
}
