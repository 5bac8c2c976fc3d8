package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/localport-sh/localport/cmd/localport/internal/filediff"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/edit"
	"github.com/localport-sh/localport/project/trust"
)

// configChange is a change of a project's files, before it is written. All of it is written, or nothing.
type configChange struct {
	project       commandProject
	verdict       trust.Verdict // of the files before
	before, after *project.Files
	files         []changedFile
	review        review // of the files after; set by check
}

// changedFile is a file that is replaced; before is nil if it is new.
type changedFile struct {
	path          string
	before, after []byte
}

// newConfigChange returns a change of a project's files, which has no config yet if its file does not exist.
func newConfigChange(p commandProject) (*configChange, error) {
	verdict, files, err := p.AskTrust()
	if errors.Is(err, fs.ErrNotExist) {
		verdict = trust.Unknown
		files, err = project.ReadFilesAround(p.Config, nil)
	}
	return &configChange{project: p, verdict: verdict, before: files, after: files}, err
}

// set replaces the contents of a file. Files of a git worktree that it has from the main checkout are not changed.
func (c *configChange) set(path string, before, after []byte) error {
	if string(before) == string(after) {
		return nil
	}
	if filepath.Dir(path) != c.project.Root {
		return fmt.Errorf("%s belongs to another checkout: change it there", output.EscapeLine(path))
	}
	changed, err := c.after.WithContents(path, after)
	if err != nil {
		return err
	}
	c.after = changed
	if at := slices.IndexFunc(c.files, func(f changedFile) bool { return f.path == path }); at >= 0 {
		c.files[at].after = after
		return nil
	}
	c.files = append(c.files, changedFile{path, before, after})
	return nil
}

// setConfig replaces the config by what change makes of it.
func (c *configChange) setConfig(change func(text []byte) ([]byte, error)) error {
	text, err := change(c.after.Config)
	if err != nil {
		return c.explainEditError(err, c.after.Path)
	}
	return c.set(c.after.Path, c.after.Config, text)
}

// setLocal is setConfig for .localport.local.toml.
func (c *configChange) setLocal(change func(text []byte) ([]byte, error)) error {
	text, err := change(c.after.Local)
	if err != nil {
		return c.explainEditError(err, c.after.LocalPath)
	}
	return c.set(c.after.LocalPath, c.after.Local, text)
}

// explainEditError adds to an error of package edit the place in the file, and what to do there.
func (c *configChange) explainEditError(err error, path string) error {
	path = output.EscapeLine(path)
	if unsupportedAt, ok := errors.AsType[*edit.UnsupportedSyntaxError](err); ok {
		return output.WithHint(fmt.Errorf("%s:%d:%d: %w", path, unsupportedAt.Line, unsupportedAt.Col, err), unsupportedAt.Advice+`, with "localport edit"`)
	}
	if _, parseErr := c.project.parseConfig(c.before); parseErr != nil && errors.As(err, new(*edit.SyntaxError)) {
		return output.WithHint(parseErr, "nothing was written; correct the file first: localport edit")
	}
	if exists, ok := errors.AsType[*edit.ExistsError](err); ok {
		return output.WithHint(fmt.Errorf("%s:%d: service %q exists already", path, exists.Line, exists.Name), "choose another name with --name, or remove that service first: localport remove "+exists.Name)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// check returns an error if the files would not be valid.
func (c *configChange) check() (err error) {
	c.review, err = c.project.reviewFiles(c.after, c.verdict)
	if err == nil {
		return nil
	}
	hint := "nothing was written"
	if _, beforeErr := c.project.reviewFiles(c.before, c.verdict); beforeErr != nil && c.before.Config != nil {
		hint += "; correct the file first: localport edit"
	}
	return output.WithExitCode(output.WithHint(err, hint), output.ExitInvalid)
}

// print shows the difference.
func (c *configChange) print(a *app) {
	secrets := slices.Concat(c.review.secrets, c.project.secretsOf(c.before))
	before := c.before.MaskedFiles(secrets)
	if c.before.Config == nil {
		before = nil
	}
	a.printComparison(filediff.Compare(before, c.after.MaskedFiles(secrets)))
}

// secretsOf returns the secrets in files that may have mistakes.
func (p commandProject) secretsOf(files *project.Files) []string {
	parsed, err := p.parseConfig(files)
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		return invalid.Secrets
	}
	if err != nil {
		return nil
	}
	return parsed.Secrets
}

// write replaces the files, and says so.
func (c *configChange) write(a *app) error {
	if err := c.writeFiles(); err != nil {
		return err
	}
	for _, file := range c.files {
		output.Info(a.err, "wrote %s", file.path)
	}
	return nil
}

// writeFiles replaces the files. If one cannot be replaced, those before it get their contents back.
func (c *configChange) writeFiles() error {
	for i, file := range c.files {
		if err := file.write(); err != nil {
			for _, written := range c.files[:i] {
				err = errors.Join(err, written.restore())
			}
			return explainReplaceError(err, file.path)
		}
	}
	return nil
}

// write writes the file. A new .env is the user's alone: it holds secrets.
func (f changedFile) write() error {
	if f.before == nil && filepath.Base(f.path) == project.EnvName {
		return edit.Create(f.path, f.after, 0o600)
	}
	return edit.Replace(f.path, f.before, f.after)
}

func (f changedFile) restore() error {
	if f.before == nil {
		return os.Remove(f.path)
	}
	return edit.Replace(f.path, f.after, f.before)
}

func explainReplaceError(err error, path string) error {
	if errors.Is(err, edit.ErrChanged) {
		return output.WithHint(fmt.Errorf("%s: %w; nothing was written", output.EscapeLine(path), edit.ErrChanged), "try again")
	}
	return fmt.Errorf("%w; nothing was written", err)
}

// allowOwn allows the files after the change if those before were allowed: nothing but what was shown is new then. It says so, or what is to be done.
func (c *configChange) allowOwn(ctx context.Context, a *app) error {
	if c.verdict != trust.Allowed {
		return c.sayNext(a)
	}
	if err := a.requireTerminal(); errors.Is(err, errNoTerminal) {
		output.Info(a.err, `%v; ask the user to run "localport allow" in a terminal`, errNoTerminal)
		return nil
	} else if err != nil {
		return err
	}
	return c.allow(ctx, a)
}

func (c *configChange) allow(ctx context.Context, a *app) error {
	if err := c.project.allow(ctx, c.review); err != nil {
		return err
	}
	output.Info(a.err, "allowed this change of %s", c.project.Config)
	return c.project.reloadSupervisor(ctx)
}

func (c *configChange) sayNext(a *app) error {
	output.Info(a.err, `next: review it, then run "%s"`, allowCommand(a, c.project.Config))
	return nil
}

// apply checks, shows and writes the change, and allows it if it may.
func (c *configChange) apply(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	c.print(a)
	if err := c.write(a); err != nil {
		return err
	}
	return c.allowOwn(ctx, a)
}
