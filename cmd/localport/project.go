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
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// commandProject is the project of a command. Unlike client.Project it knows every technology and every probe, which a prompt does not
// need.
type commandProject struct{ *client.Project }

// findProject is the project of -c, or the nearest one. Where its file or its directory is not there any more, it is the one
// that is up all the same.
func (a *app) findProject() (commandProject, error) {
	config, err := a.findConfig()
	if err != nil {
		return commandProject{}, err
	}
	return a.openConfig(config)
}

func (a *app) findConfig() (string, error) {
	switch {
	case a.config != "":
		dir, err := filepath.EvalSymlinks(filepath.Dir(a.config))
		if err == nil {
			return filepath.Join(dir, filepath.Base(a.config)), nil
		}
		if config := findLiveConfig(a.config); config != "" {
			return config, nil
		}
		return "", err
	case a.goneConfig != "":
		return a.goneConfig, nil
	}
	root, _, err := project.Find(a.dir)
	if err == nil {
		return filepath.Join(root, project.ConfigName), nil
	}
	dir := a.dir
	if dir == "" {
		dir = "."
	}
	if config := findLiveConfigAbove(dir); config != "" {
		return config, nil
	}
	return "", err
}

func (a *app) openConfig(config string) (commandProject, error) {
	p, err := client.Open(config, func(text string) { output.Warn(a.err, text) }, a.logLevel, version.Own())
	a.project = p
	return commandProject{p}, err
}

// openProject is the project to act on and a context with the patience of a command.
func (a *app) openProject() (commandProject, context.Context, context.CancelFunc, error) {
	p, err := a.findProject()
	if err != nil {
		return commandProject{}, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout())
	return p, ctx, cancel, nil
}

// explainNoAnswer names the process where the error is that a supervisor did not answer. The exit code stays.
func (p commandProject) explainNoAnswer(err error, began time.Time) error {
	if err == nil {
		return nil
	}
	return output.WithExitCode(p.ExplainNoAnswer(err, began), output.ExitCode(err))
}

// parseConfig is the project as it would run from this shell.
func (p commandProject) parseConfig(files *project.Files) (*project.Project, error) {
	base := environ.Undo(environ.Parse(os.Environ()))
	ports := p.Dir.ReadOrZero().Ports
	return project.Parse(files, project.Options{
		Getenv: base.Lookup,
		Checks: builtin.Types(), Technologies: supervisor.Technologies(),
		PickAutoPort: func(service string) int {
			if port, ok := ports[service]; ok {
				return port
			}
			return project.PickAutoPort(p.Root, service, func(int) bool { return false })
		},
	})
}
