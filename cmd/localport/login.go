package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/fail"
	"github.com/localport-sh/localport/cmd/localport/place"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/child"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/kubectl"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/ssh"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/trust"
)

type loginCmd struct {
	Services []string `arg:"" optional:"" name:"service" help:"Services; none means those that need attention."`
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
		return &fail.NotAllowedError{Config: p.Config}
	}
	parsed, err := p.parse(files)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	finding, cancel := context.WithTimeout(ctx, place.Patience())
	defer cancel()
	client, status, err := p.Find(finding)
	if err != nil {
		return err
	}
	if client == nil {
		return fail.Hinted(errors.New("the project is not running: nothing waits for a login"), "localport start")
	}
	names, err := c.meant(status)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		fmt.Fprintln(a.err, "localport: no service needs a login")
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
func (c loginCmd) meant(status control.Status) ([]string, error) {
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
	names  []string
	source *session.Source // of a cluster; nil: none is concerned
	host   string          // of ssh; empty: none is concerned
	argv   []string        // of command: what logs the user in; nil: none does
	root   string          // where it runs
	env    []string        // with this environment
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
		one, key := &login{}, ""
		if svc.Technology == project.Kubectl {
			src := kubectl.LoginSource(svc, parsed.Root, env.List())
			one.source, key = &src, fmt.Sprintf("%q %q", src.Kubeconfig, src.Place.Context)
		}
		if svc.Technology == project.Command && svc.Login != nil {
			one.argv, one.root, one.env, key = svc.Login, parsed.Root, env.List(), fmt.Sprintf("%q", svc.Login)
		}
		if svc.Technology == project.SSH {
			one.host, key = svc.Connection.Host, ssh.Destination(svc)
		}
		if known[key] == nil {
			known[key] = one
			all = append(all, one)
		}
		known[key].names = append(known[key].names, svc.Name)
	}
	return all
}

// goThrough runs a login and hands over what came of it.
func (l *login) goThrough(ctx context.Context, a *app, p here, client *control.Client, supervisor *control.SupervisorStatus) error {
	if l.host != "" {
		return l.askFor(ctx, a, p, client, supervisor)
	}
	var answer []byte
	helped := false
	if l.argv != nil {
		helped = true
		if err := l.runProgram(a); err != nil {
			return fmt.Errorf("log in for %s: %w", strings.Join(l.names, ", "), err)
		}
	}
	if l.source != nil {
		fmt.Fprintf(a.err, "localport: the login of context %q, for %s\n", l.source.Place.Context, strings.Join(l.names, ", "))
		var err error
		if answer, helped, err = session.Foreground(ctx, *l.source); err != nil {
			return fmt.Errorf("log in for %s: %w", strings.Join(l.names, ", "), err)
		}
	}
	if !helped {
		fmt.Fprintf(a.err, "localport: there is no login helper to run for %s; trying again with the login as it is now\n", strings.Join(l.names, ", "))
	}
	return client.Login(ctx, control.LoginRequest{Names: l.names, Credential: answer})
}

// runProgram runs the program that logs the user in, on this terminal. Ctrl-C is for it, and ends it.
func (l *login) runProgram(a *app) error {
	path, err := child.Look(l.argv[0], l.env, l.root)
	if err != nil {
		return child.Failure(err, "install "+l.argv[0])
	}
	fmt.Fprintf(a.err, "localport: the login of %s, for %s\n", filepath.Base(l.argv[0]), strings.Join(l.names, ", "))
	cmd := &exec.Cmd{Path: path, Args: l.argv, Dir: l.root, Env: l.env, Stdin: os.Stdin, Stdout: a.out, Stderr: a.err}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", l.argv[0], err)
	}
	return nil
}
