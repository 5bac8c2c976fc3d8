package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/edit"
	"github.com/localport-sh/localport/project/paste"
)

// saveForward writes the services into the project's config, or into a new one in the current directory. It changes nothing else in the file, and
// allows nothing. A service that the file has already is an error.
func (a *app) saveForward(pasted paste.Result) error {
	config, err := a.findConfig()
	if _, isNotFound := errors.AsType[*project.NotFoundError](err); isNotFound && a.dir != "" {
		config, err = filepath.Join(a.dir, project.ConfigName), nil
	}
	if err != nil {
		return err
	}
	before, err := os.ReadFile(config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	after, err := addServices(before, pasted)
	if err != nil {
		return explainSave(config, err)
	}
	if err := checkSaved(config, after, pasted); err != nil {
		output.Info(a.err, "not saved: the config would not be valid")
		return err
	}
	if err := edit.Replace(config, before, after); err != nil {
		return err
	}
	var names []string
	for _, svc := range pasted.Services {
		names = append(names, svc.Name)
	}
	output.Info(a.err, "wrote %s to %s; to use it in each shell there, run \"localport allow\"", strings.Join(names, ", "), config)
	for _, secret := range pasted.Secrets {
		output.Info(a.err, "the password is not in it: put %s=… into %s", secret.Name, filepath.Join(filepath.Dir(config), project.EnvName))
	}
	return nil
}

func addServices(text []byte, pasted paste.Result) (after []byte, err error) {
	if after = text; after == nil {
		after = []byte(draft.SchemaLine + "\n")
	}
	for _, svc := range pasted.Services {
		if after, err = edit.AddService(after, svc.Name, svc.Text()); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// explainSave adds to an error of package edit what to do.
func explainSave(config string, err error) error {
	if exists, ok := errors.AsType[*edit.ExistsError](err); ok {
		return output.WithHint(fmt.Errorf("%s: %w", config, err), "choose another name: localport forward --save --name "+exists.Name+"-2 …")
	}
	if unsupportedAt, ok := errors.AsType[*edit.UnsupportedSyntaxError](err); ok {
		return output.WithHint(fmt.Errorf("%s:%d:%d: %w", config, unsupportedAt.Line, unsupportedAt.Col, err), unsupportedAt.Advice)
	}
	return fmt.Errorf("%s: %w", config, err)
}

// checkSaved returns what would be wrong with the config: a local port that another service has, for example.
func checkSaved(config string, text []byte, pasted paste.Result) error {
	files := &project.Files{Root: filepath.Dir(config), Path: config}
	if existing, err := project.ReadFiles(config); err == nil {
		files = existing
	}
	files.Config = text
	_, err := project.Parse(files, project.Options{
		Checks: builtin.Types(), Technologies: supervisor.Technologies(),
		Getenv: func(name string) (string, bool) {
			for _, secret := range pasted.Secrets {
				if secret.Name == name {
					return secret.Value, true
				}
			}
			return os.LookupEnv(name)
		},
	})
	return err
}
