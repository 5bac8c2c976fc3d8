package main

import (
	"errors"
	"io/fs"
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
	"github.com/localport-sh/localport/project/trust"
)

// commandProject is the project of a command. Unlike client.Project, which prompts use, it imports every technology and every probe.
type commandProject struct{ *client.Project }

// findProject returns the project that -c names, or the nearest one. A project whose config or directory was deleted is found as long as
// it is running.
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
		_, err := os.Lstat(a.config)
		if dir, dirErr := filepath.EvalSymlinks(filepath.Dir(a.config)); err == nil && dirErr == nil {
			return filepath.Join(dir, filepath.Base(a.config)), nil
		}
		if config := findLiveConfig(a.config); config != "" {
			return config, nil
		}
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			pathErr.Op = "open" // as the commands that read the file say
		}
		return "", err
	case a.deletedConfig != "":
		return a.deletedConfig, nil
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

// explainNoAnswer adds the process to an error about a supervisor that did not answer since startTime. It keeps the exit code.
func (p commandProject) explainNoAnswer(err error, startTime time.Time) error {
	if err == nil {
		return nil
	}
	return output.WithExitCode(p.ExplainNoAnswer(err, startTime), output.ExitCode(err))
}

// parseAllowed reads and parses the config. If the files are not allowed, it returns a *client.NotAllowedError.
func (p commandProject) parseAllowed() (*project.Project, error) {
	verdict, files, err := p.AskTrust()
	if err != nil {
		return nil, err
	}
	if verdict != trust.Allowed {
		return nil, &client.NotAllowedError{Config: p.Config}
	}
	return p.parseConfig(files)
}

// parseConfig parses the files as a supervisor started from this shell would: with its environment, and with the automatic ports that
// the project used last.
func (p commandProject) parseConfig(files *project.Files) (*project.Project, error) {
	return project.Parse(files, p.parseOptions())
}

// parseSettings is parseConfig that also returns where each service's values come from.
func (p commandProject) parseSettings(files *project.Files) (*project.Project, map[string][]project.Setting, error) {
	return project.ParseSettings(files, p.parseOptions())
}

// parseOptions are the options of parseConfig.
func (p commandProject) parseOptions() project.Options {
	base := environ.Undo(environ.Parse(os.Environ()))
	ports := p.Dir.ReadOrZero().Ports
	return project.Options{
		Getenv: base.Lookup,
		Checks: builtin.Types(), Technologies: supervisor.Technologies(),
		PickAutoPort: func(service string) int {
			if port, ok := ports[service]; ok {
				return port
			}
			return project.PickAutoPort(p.Root, service, func(int) bool { return false })
		},
	}
}
