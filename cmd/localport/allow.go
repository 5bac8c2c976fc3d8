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

// Run allows the files as they stand; a supervisor that runs takes them over.
func (allowCmd) Run(a *app) error {
	p, ctx, cancel, err := a.act()
	if err != nil {
		return err
	}
	defer cancel()
	if err := p.decide(p.Store.Allow); err != nil {
		return fmt.Errorf("allow %s: %w", p.Config, err)
	}
	if err := p.bump(ctx); err != nil {
		return err
	}
	output.Info(a.err, "allowed %s", p.Config)
	client, err := p.Running(ctx)
	if err != nil || client == nil {
		return err
	}
	if _, err := client.Reload(ctx); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

type denyCmd struct{}

// Run forgets the permission and ends what runs on it.
func (denyCmd) Run(a *app) error {
	p, ctx, cancel, err := a.act()
	if err != nil {
		return err
	}
	defer cancel()
	err = p.decide(p.Store.Deny)
	if errors.Is(err, fs.ErrNotExist) { // what runs still has a name, although its file is gone
		err = p.Store.Deny(&project.Files{Path: p.Config, Root: p.Root})
	}
	if err != nil {
		return fmt.Errorf("deny %s: %w", p.Config, err)
	}
	if err := p.end(ctx, a.err); err != nil {
		return err
	}
	// What holds a denied project down is its denial: an allow later is all that it takes.
	if _, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Down = false; return nil }); err != nil {
		return err
	}
	output.Info(a.err, "denied %s", p.Config)
	return nil
}

// decide gives the files as they stand to the store.
func (p here) decide(decision func(*project.Files) error) error {
	files, err := p.Files()
	if err != nil {
		return err
	}
	return decision(files)
}

// bump makes every prompt in the project look again.
func (p here) bump(ctx context.Context) error {
	_, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Bump(); return nil })
	return err
}
