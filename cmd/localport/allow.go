package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

type allowCmd struct{}

// Run allows the current contents of the files and has a running supervisor reload them.
func (allowCmd) Run(ctx context.Context, a *app, p commandProject) error {
	if err := p.recordDecision(p.Store.Allow); err != nil {
		return fmt.Errorf("allow %s: %w", p.Config, err)
	}
	if err := p.bumpLine(ctx); err != nil {
		return err
	}
	output.Info(a.err, "allowed %s", p.Config)
	if files, err := project.ReadFiles(p.Config); err == nil && files.DotEnvWarning() != nil {
		fmt.Fprintln(a.err, "warning:", output.Diagnostic(*files.DotEnvWarning()))
	}
	client, err := p.SupervisorClient(ctx)
	if err != nil || client == nil {
		return err
	}
	if _, err := client.Reload(ctx); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

type denyCmd struct{}

// Run revokes the approval and stops the project.
func (denyCmd) Run(ctx context.Context, a *app, p commandProject) error {
	if err := p.CheckControl(ctx); !mayEnd(err) {
		return err
	}
	err := p.recordDecision(p.Store.Deny)
	if errors.Is(err, fs.ErrNotExist) { // the project may be running although its file was deleted
		err = p.Store.Deny(&project.Files{Path: p.Config, Root: p.Root})
	}
	if err != nil {
		return fmt.Errorf("deny %s: %w", p.Config, err)
	}
	if err := p.shutDown(ctx, a.err); err != nil {
		return err
	}
	// The denial alone keeps the project stopped, so that the next prompt after a later allow starts it.
	if _, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Down = false; return nil }); err != nil {
		return err
	}
	output.Info(a.err, "denied %s", p.Config)
	return nil
}

// recordDecision reads the project's files and passes them to decision: Allow or Deny of the trust store.
func (p commandProject) recordDecision(decision func(*project.Files) error) error {
	files, err := project.ReadFiles(p.Config)
	if err != nil {
		return err
	}
	err = decision(files)
	if failed, ok := errors.AsType[*fs.PathError](err); ok && failed.Path != files.Path {
		return output.WithHint(err, "make the directory writable, or set XDG_DATA_HOME to one that is")
	}
	return err
}

// bumpLine makes every shell in the project evaluate it at its next prompt.
func (p commandProject) bumpLine(ctx context.Context) error {
	_, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Bump(); return nil })
	return err
}
