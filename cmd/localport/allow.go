package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

type allowCmd struct{}

// Help is the text below the usage.
func (allowCmd) Help() string {
	return `Shows what has changed since the files were allowed last. A running project reloads them.

Example: localport allow

Exit codes: 0 allowed; 1 it could not be done; 2 wrong usage; 3 the files have mistakes, nothing is allowed; 4 your own config requires a terminal for this.`
}

// Run shows what changed since the files were allowed last, allows their current contents, and has a running supervisor reload them. Files with a
// mistake are not allowed.
func (allowCmd) Run(ctx context.Context, a *app, p commandProject) error {
	if err := a.requireTerminal(); err != nil {
		return err
	}
	verdict, files, err := p.AskTrust()
	if err != nil {
		return err
	}
	r, err := p.reviewFiles(files, verdict)
	if err != nil {
		return withAllowHint(err)
	}
	a.printReview(ctx, r)
	if err := p.allow(ctx, r); err != nil {
		return err
	}
	output.Info(a.err, "allowed %s", p.Config)
	if warning := files.DotEnvWarning(); warning != nil {
		fmt.Fprintln(a.err, "warning:", output.Diagnostic(*warning))
	}
	return p.reloadSupervisor(ctx)
}

// withAllowHint adds to the mistakes in files what to do about them.
func withAllowHint(err error) error {
	if _, isInvalid := errors.AsType[*project.InvalidError](err); !isInvalid {
		return err
	}
	return output.WithHint(err, `nothing was allowed; correct the file, then run "localport allow" again`)
}

// allow records that the reviewed files are allowed.
func (p commandProject) allow(ctx context.Context, r review) error {
	if err := withTrustHint(p.Store.AllowCopied(r.files, r.masked), p.Config); err != nil {
		return fmt.Errorf("allow %s: %w", p.Config, err)
	}
	return p.bumpLine(ctx)
}

// reloadSupervisor has the supervisor, if one is running, use the current files.
func (p commandProject) reloadSupervisor(ctx context.Context) error {
	client, err := p.SupervisorClient(ctx)
	if err != nil || client == nil {
		return err
	}
	if _, err := client.Reload(ctx); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// errNoTerminal is returned for a decision that the user wants to make only at a terminal.
var errNoTerminal = errors.New("your config allows projects only at a terminal ([trust] terminal = true)")

// requireTerminal returns an error if the user has decided to allow projects only at a terminal, and this is none: an agent must not allow its own
// change.
func (a *app) requireTerminal() error {
	if a.isAtTerminal() {
		return nil
	}
	user, err := client.ReadUser()
	invalid, isInvalid := errors.AsType[*project.InvalidError](err)
	switch {
	case isInvalid && mentionsTerminal(invalid.Diagnostics[0].Path): // it may be meant to say so
		return err
	case user.Trust.Terminal:
		return output.WithExitCode(output.WithHint(errNoTerminal, `ask the user to run "localport allow" in a terminal`), output.ExitNotAllowed)
	}
	return nil
}

// mentionsTerminal reports whether the user's config, which has mistakes, has the word.
func mentionsTerminal(path string) bool {
	data, err := os.ReadFile(path)
	return err != nil || bytes.Contains(data, []byte("terminal"))
}

type denyCmd struct{}

// Help is the text below the usage.
func (denyCmd) Help() string {
	return `Example: localport deny

Exit codes: 0 denied and stopped; 1 it could not be done; 2 wrong usage.`
}

// Run revokes the approval and stops the project.
func (denyCmd) Run(ctx context.Context, a *app, p commandProject) error {
	if err := p.CheckControl(ctx); !mayEnd(err) {
		return err
	}
	files, err := project.ReadFiles(p.Config)
	if errors.Is(err, fs.ErrNotExist) { // the project may be running although its file was deleted
		files, err = &project.Files{Path: p.Config, Root: p.Root}, nil
	}
	if err == nil {
		err = withTrustHint(p.Store.Deny(files), p.Config)
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

// withTrustHint adds to an error of the trust store what to do about a directory that cannot be written to.
func withTrustHint(err error, config string) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok && failed.Path != config {
		return output.WithHint(err, "make the directory writable, or set XDG_DATA_HOME to one that is")
	}
	return err
}

// bumpLine makes every shell in the project evaluate it at its next prompt.
func (p commandProject) bumpLine(ctx context.Context) error {
	_, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error { tx.Bump(); return nil })
	return err
}
