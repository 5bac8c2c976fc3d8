package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/edit"
)

type removeCmd struct {
	Force  bool     `env:"-" help:"Also remove what needs the services: items of depends_on, and entries of [env]."`
	DryRun bool     `env:"-" help:"Show the change instead of writing it."`
	Names  []string `arg:"" name:"service" help:"Services to remove."`
}

// Help says what is removed.
func (removeCmd) Help() string {
	return "Removes the tables of the services with the comments directly above them, from .localport.toml and .localport.local.toml. If something " +
		"else needs a service, nothing is removed, and every such place is named. A table that becomes empty is removed too; its comments stay. If the files were allowed before, the change that is shown is allowed " +
		"with them.\n\n" +
		"  localport remove db\n" +
		"  localport remove --force db cache\n\n" +
		"Exit codes: 0 removed; 1 unknown or needed, nothing is removed; 2 wrong usage; 3 the config would be invalid."
}

// Run removes the services, and shows and allows this change.
func (c removeCmd) Run(ctx context.Context, a *app, p commandProject) error {
	change, err := newConfigChange(p)
	if err != nil {
		return err
	}
	known, _ := change.before.Names()
	for _, name := range c.Names {
		if !slices.Contains(known, name) {
			return unknownNameError("service", name, known)
		}
	}
	uses := change.before.ServiceUses(c.Names...)
	if err := c.checkUses(uses); err != nil {
		return err
	}
	for _, use := range uses {
		if err := removeUse(change, use); err != nil {
			return err
		}
	}
	for _, name := range c.Names {
		if err := removeService(change, name); err != nil {
			return err
		}
	}
	if c.DryRun {
		if err := change.check(); err != nil {
			return err
		}
		change.print(a)
		return nil
	}
	return change.apply(ctx, a)
}

// checkUses returns an error that names the places that need the services; with --force, only those that cannot be removed with them.
func (c removeCmd) checkUses(uses []project.ServiceUse) error {
	var inTheWay []project.Diagnostic
	for _, use := range uses {
		if c.Force && isRemovable(use) {
			continue
		}
		inTheWay = append(inTheWay, project.Diagnostic{
			Path: use.Path, Line: use.Line, Col: use.Col, Source: use.Source,
			Message: fmt.Sprintf("%s needs service %q", strings.Join(use.Key, "."), use.Service),
		})
	}
	if len(inTheWay) == 0 {
		return nil
	}
	hint := `nothing was removed; change these places first, with "localport edit"`
	if !slices.ContainsFunc(uses, func(use project.ServiceUse) bool { return !isRemovable(use) }) {
		hint = `nothing was removed; to remove these too: localport remove --force ` + strings.Join(c.Names, " ")
	}
	return output.WithExitCode(output.WithHint(&project.InvalidError{Diagnostics: inTheWay}, hint), output.ExitFailed)
}

// isRemovable reports whether the config is complete without the place that needs a service: an item of depends_on, or a variable.
func isRemovable(use project.ServiceUse) bool {
	return use.IsDependency || len(use.Key) == 2 && use.Key[0] == "env"
}

// removeUse removes a place that needs a service.
func removeUse(change *configChange, use project.ServiceUse) error {
	return setFile(change, use.Path, func(text []byte) ([]byte, error) {
		var err error
		var changed []byte
		if use.IsDependency {
			changed, err = edit.RemoveItem(text, use.Key, use.Service)
		} else {
			changed, err = edit.RemoveKey(text, use.Key)
		}
		if err == nil && !use.IsDependency {
			return edit.RemoveEmptyTable(changed, use.Key[0])
		}
		if errors.Is(err, edit.ErrNotFound) { // removed with another use
			return text, nil
		}
		return changed, err
	})
}

func setFile(change *configChange, path string, f func(text []byte) ([]byte, error)) error {
	if path == change.before.LocalPath {
		return change.setLocal(f)
	}
	return change.setConfig(f)
}

// removeService removes a service from every file that has it.
func removeService(change *configChange, name string) error {
	remove := func(text []byte) ([]byte, error) {
		changed, err := edit.RemoveService(text, name)
		if errors.Is(err, edit.ErrNotFound) {
			return text, nil
		}
		if err != nil {
			return nil, err
		}
		return edit.RemoveEmptyTable(changed, "services")
	}
	if err := change.setConfig(remove); err != nil || change.before.Local == nil {
		return err
	}
	return change.setLocal(remove)
}
