package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/child"
	"github.com/localport-sh/localport/forwarder/control"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/probe/kinds"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/trust"
)

// patience is how long a command waits for the lock, for a start and for a supervisor's answer, all together.
const patience = 10 * time.Second

// place is the project that a command acts on.
type place struct {
	config string // the project's identity
	root   string
	dir    *lockstate.Dir
	store  trust.Store
	level  string
}

// place is the project of -c, or the nearest one.
func (a *app) place() (*place, error) {
	config := a.config
	if config == "" {
		root, _, err := project.Find(a.dir)
		if err != nil {
			return nil, err
		}
		config = filepath.Join(root, project.ConfigName)
	} else {
		real, err := filepath.EvalSymlinks(filepath.Dir(config))
		if err != nil {
			return nil, err
		}
		config = filepath.Join(real, filepath.Base(config))
	}
	return a.at(config)
}

// act is the project to act on and a context with the patience of a command.
func (a *app) act() (*place, context.Context, context.CancelFunc, error) {
	p, err := a.place()
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	return p, ctx, cancel, nil
}

func (a *app) at(config string) (*place, error) {
	dir, err := lockstate.Open(config)
	if err != nil {
		return nil, err
	}
	dir.Warn = func(text string) { fmt.Fprintln(a.err, "localport: warning:", text) }
	data, err := lockstate.DataHome()
	if err != nil {
		return nil, err
	}
	return &place{
		config: config, root: filepath.Dir(config), dir: dir,
		store: trust.Store{Dir: filepath.Join(data, "trust")}, level: a.level,
	}, nil
}

// files reads the project's files as they stand, without asking trust.
func (p *place) files() (*project.Files, error) {
	if filepath.Base(p.config) == project.ConfigName {
		return project.Read(p.root)
	}
	return project.ReadFile(p.config)
}

// ask reads the files and asks trust about just these bytes.
func (p *place) ask() (trust.Verdict, *project.Files, error) {
	files, err := p.files()
	if err != nil {
		return trust.Unknown, nil, err
	}
	return p.store.Ask(files)
}

// parse is the project as it would run from this shell.
func (p *place) parse(files *project.Files) (*project.Project, error) {
	base := environ.Undo(environ.Parse(os.Environ()))
	ports := p.dir.Peek().Ports
	return project.Parse(files, project.Options{
		Getenv: base.Lookup,
		Checks: kinds.Types(), Technologies: supervisor.Technologies(),
		AutoPort: func(service string) int {
			if port, ok := ports[service]; ok {
				return port
			}
			return project.AutoPort(p.root, service, func(int) bool { return false })
		},
	})
}

// running is the client of the project's supervisor, nil if none lives.
func (p *place) running(ctx context.Context) (client *control.Client, err error) {
	_, err = p.dir.Update(ctx, func(tx *lockstate.Tx) error {
		client, err = reach(tx, tx.Alive())
		return err
	})
	return client, err
}

// reach is the client of the supervisor if one lives, else nil.
func reach(tx *lockstate.Tx, alive bool) (*control.Client, error) {
	if !alive {
		return nil, nil
	}
	socket, err := tx.Socket()
	return &control.Client{Socket: socket}, err
}

// entry is how a command joins a project.
type entry struct {
	lease lockstate.Lease
	// heal brings up what the user stopped as a whole; prompts do not.
	heal bool
	// detach: the caller will become another program, which must not inherit the supervisor as its child.
	detach bool
	// allowed: the files as they stand may be run. Otherwise a supervisor that already runs is joined, on the old
	// text, and none is started.
	allowed bool
	// prepare changes the state further, under the same lock; alive says whether a supervisor lives.
	prepare func(tx *lockstate.Tx, alive bool)
}

// joined is a project that is up.
type joined struct {
	control.Client
	place   *place
	View    control.View
	Started bool // by this call
}

// errDown says that the project is down and that this caller is not to bring it up.
var errDown = errors.New("the project is down")

// join takes the lease, brings a supervisor up where none lives, and returns what it says of the services. Every
// address in the view that is held accepts connections when it returns.
func (p *place) join(ctx context.Context, e entry) (*joined, error) {
	started, replaced := false, false
	for {
		client, err := p.claim(ctx, e)
		if err != nil {
			return nil, err
		}
		if client != nil && !replaced {
			if replaced = p.replaced(ctx, client); replaced {
				continue
			}
		}
		if client == nil {
			word, err := p.spawner(e.detach).Spawn(ctx)
			if err != nil {
				return nil, err
			}
			started = started || word.Outcome == control.Ready
			continue
		}
		view, err := client.Join(ctx, p.session())
		var lost *control.UnreachableError
		if errors.As(err, &lost) && ctx.Err() == nil {
			// Elected, but not listening yet, or just ending: nothing tells when that is over.
			if pause(ctx, 5*time.Millisecond) {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		return &joined{*client, p, view, started}, nil
	}
}

// claim records the lease and returns the client of the living supervisor; nil where one must be started.
func (p *place) claim(ctx context.Context, e entry) (client *control.Client, err error) {
	state, err := p.dir.Update(ctx, func(tx *lockstate.Tx) error {
		alive := tx.Alive()
		if e.heal {
			tx.Down = false
		}
		if !alive && !e.allowed {
			return &notAllowedError{p.config}
		}
		tx.Prune()
		if e.lease.Kind != "" {
			tx.Hold(e.lease)
		}
		if e.prepare != nil {
			e.prepare(tx, alive)
		}
		client, err = reach(tx, alive)
		return err
	})
	if err == nil && client == nil && state.Down {
		return nil, errDown
	}
	return client, err
}

// replaced has a supervisor of an older release replaced by one of ours; false where there is nothing to replace. One
// that could not be replaced says so in its state, and is not asked again.
func (p *place) replaced(ctx context.Context, client *control.Client) bool {
	running := p.dir.Peek().Supervisor
	exe, err := os.Executable()
	if err != nil || running == nil || running.Refused == version() || !supersedes(version(), running.Version) {
		return false
	}
	return client.Replace(ctx, control.Replacement{Exe: exe, Version: version()}) == nil
}

func (p *place) spawner(detach bool) control.Spawner {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	args := []string{"supervise", "--config", p.config}
	if p.level != "" {
		args = append(args, "--log-level", p.level)
	}
	return control.Spawner{
		Exe: exe, Args: args,
		Env: unmarked(os.Environ()), Log: p.dir.Log("supervisor"), Detach: detach,
	}
}

// unmarked is an environment without the mark of another project's tunnel: a supervisor that was started from one must
// not be taken for what that tunnel left behind.
func unmarked(env []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool { return strings.HasPrefix(entry, child.RunVariable+"=") })
}

// session is what this shell has that may have stopped working in the supervisor's environment.
func (p *place) session() control.Session {
	return control.Session{
		SSHAuthSock: os.Getenv("SSH_AUTH_SOCK"), Kubeconfig: os.Getenv("KUBECONFIG"), Path: os.Getenv("PATH"),
		Level: p.level,
	}
}

// pause waits for d; false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// current brings a running supervisor to the files as they stand, where those are allowed. The error is why it
// stays on the old ones.
func (j *joined) current(ctx context.Context, files *project.Files) error {
	if j.View.Digest == files.Digest() {
		return nil
	}
	if _, err := j.Reload(ctx); err != nil {
		return err
	}
	view, err := j.Join(ctx, j.place.session())
	if err == nil {
		j.View = view
	}
	return err
}

// variables are what the project sets in an environment: each service's host and port, then [env]. The error names
// the entries of [env] that could not be resolved; the rest stand.
func variables(view control.View, base environ.Env) ([]project.Pair, error) {
	var pairs []project.Pair
	services := make(map[string]project.Endpoint, len(view.Services))
	for _, svc := range view.Services {
		services[svc.Name] = project.Endpoint{Host: svc.Host, Port: svc.Port, Ours: svc.Held}
		if svc.Held {
			pairs = append(pairs, endpoint(svc)...)
		}
	}
	r := project.ResolveEnv(view.Env, project.View{Lookup: base.Lookup, DotEnv: view.DotEnv, Services: services})
	for _, pair := range r.Pairs {
		pairs = set(pairs, pair)
	}
	if len(r.Errors) > 0 {
		return pairs, &project.Invalid{Diagnostics: r.Errors}
	}
	return pairs, nil
}

// endpoint is a service's own two variables.
func endpoint(svc control.ServiceView) []project.Pair {
	prefix := project.EnvPrefix(svc.Name)
	return []project.Pair{
		{Name: prefix + "_HOST", Value: svc.Host},
		{Name: prefix + "_PORT", Value: strconv.Itoa(svc.Port)},
	}
}

// set adds a pair, or replaces the one of that name.
func set(pairs []project.Pair, pair project.Pair) []project.Pair {
	for i := range pairs {
		if pairs[i].Name == pair.Name {
			pairs[i] = pair
			return pairs
		}
	}
	return append(pairs, pair)
}
