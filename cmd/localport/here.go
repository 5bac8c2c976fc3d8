package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/probe/kinds"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// here is the project that a command acts on, with what needs to know of every technology and every probe. A prompt
// does without.
type here struct{ *client.Place }

// here is the project of -c, or the nearest one. Where its file or its directory is not there any more, it is the one
// that is up all the same.
func (a *app) here() (here, error) {
	config, err := a.locate()
	if err != nil {
		return here{}, err
	}
	return a.at(config)
}

func (a *app) locate() (string, error) {
	switch {
	case a.config != "":
		dir, err := filepath.EvalSymlinks(filepath.Dir(a.config))
		if err == nil {
			return filepath.Join(dir, filepath.Base(a.config)), nil
		}
		if config := known(a.config); config != "" {
			return config, nil
		}
		return "", err
	case a.gone != "":
		return a.gone, nil
	}
	root, _, err := project.Find(a.dir)
	if err == nil {
		return filepath.Join(root, project.ConfigName), nil
	}
	dir := a.dir
	if dir == "" {
		dir = "."
	}
	if config := knownBelow(dir); config != "" {
		return config, nil
	}
	return "", err
}

func (a *app) at(config string) (here, error) {
	p, err := client.At(config, func(text string) { output.Warn(a.err, text) }, a.level, version.Own())
	a.place = p
	return here{p}, err
}

// act is the project to act on and a context with the patience of a command.
func (a *app) act() (here, context.Context, context.CancelFunc, error) {
	p, err := a.here()
	if err != nil {
		return here{}, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.Patience())
	return p, ctx, cancel, nil
}

// Explain names the process where the error is that a supervisor did not answer. The exit code stays.
func (p here) Explain(err error, began time.Time) error {
	if err == nil {
		return nil
	}
	return output.Coded(p.Place.Explain(err, began), output.Code(err))
}

// parse is the project as it would run from this shell.
func (p here) parse(files *project.Files) (*project.Project, error) {
	base := environ.Undo(environ.Parse(os.Environ()))
	ports := p.Dir.Peek().Ports
	return project.Parse(files, project.Options{
		Getenv: base.Lookup,
		Checks: kinds.Types(), Technologies: supervisor.Technologies(),
		PickAutoPort: func(service string) int {
			if port, ok := ports[service]; ok {
				return port
			}
			return project.PickAutoPort(p.Root, service, func(int) bool { return false })
		},
	})
}
