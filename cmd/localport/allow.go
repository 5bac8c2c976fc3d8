package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/localport-sh/localport/cmd/localport/place"
	"github.com/localport-sh/localport/forwarder/control"
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
	fmt.Fprintf(a.err, "localport: allowed %s\n", p.Config)
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
	if err := p.decide(p.Store.Deny); err != nil {
		return fmt.Errorf("deny %s: %w", p.Config, err)
	}
	if err := p.end(ctx); err != nil {
		return err
	}
	// What holds a denied project down is its denial: an allow later is all that it takes.
	if _, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Down = false; return nil }); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "localport: denied %s\n", p.Config)
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

// end takes the project down whoever holds a lease: the start lease is dropped and the supervisor ended.
func (p here) end(ctx context.Context) error {
	_, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Release(lockstate.StartLease, lockstate.Process{})
		tx.Down = true
		tx.Bump()
		return nil
	})
	if err != nil {
		return err
	}
	for {
		client, err := p.Running(ctx)
		if err != nil || client == nil {
			return err
		}
		// Without a lease it may be ending by itself just now: then the call is cut off, and that is as well.
		err = client.End(ctx)
		if _, lost := errors.AsType[*control.UnreachableError](err); !lost || !place.Pause(ctx, 5*time.Millisecond) {
			return err
		}
	}
}
