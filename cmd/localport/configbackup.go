package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/backup"
	"github.com/localport-sh/localport/project/edit"
	"github.com/localport-sh/localport/project/trust"
)

type backupCmd struct {
	List bool `env:"-" help:"List the backups instead."`
}

// Help says what is copied, and where to.
func (backupCmd) Help() string {
	return "Copies .localport.toml and .localport.local.toml, with their modes and owners, into localport's data directory, and prints where. " +
		"Nothing is copied if nothing has changed since the last backup.\n\n" +
		"Examples:\n  localport config backup\n  localport config restore\n\n" +
		"Exit codes: 0 copied, or unchanged since the last backup; 1 not copied; 2 wrong usage."
}

// Run makes a backup.
func (c backupCmd) Run(a *app, p commandProject) error {
	if c.List {
		return p.listBackups(a)
	}
	made, err := p.backUp()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, made.Dir)
	return err
}

type restoreCmd struct {
	Name string `arg:"" optional:"" help:"The backup, as --list names it; without NAME, the last one that differs from the files."`
	List bool   `env:"-" help:"List the backups instead."`
}

// Help says what happens to the files.
func (restoreCmd) Help() string {
	return "Shows the difference, makes a backup of the files as they are, and replaces them. A second \"localport config restore\" undoes the first. " +
		"Nothing is allowed: if the restored contents were not allowed before, run \"localport allow\".\n\n" +
		"Examples:\n  localport config restore --list\n  localport config restore 20260102T150405Z\n\n" +
		"Exit codes: 0 restored, or unchanged; 1 not restored; 2 wrong usage."
}

// Run restores a backup.
func (c restoreCmd) Run(a *app, p commandProject) error {
	if c.List {
		return p.listBackups(a)
	}
	change, err := newConfigChange(p)
	if err != nil {
		return err
	}
	chosen, files, err := c.choose(p)
	if err != nil {
		return err
	}
	if err := change.restoreFiles(files); err != nil {
		return err
	}
	if len(change.files) == 0 {
		output.Info(a.err, "the files are as in backup %s", chosen.Name)
		return nil
	}
	return change.replaceUnallowed(a, files)
}

// choose returns the backup to restore, and its files.
func (c restoreCmd) choose(p commandProject) (backup.Backup, []backup.File, error) {
	all, err := p.backups().List()
	if err != nil {
		return backup.Backup{}, nil, err
	}
	if len(all) == 0 {
		return backup.Backup{}, nil, output.WithHint(fmt.Errorf("%s has no backup", p.Config), `"localport config backup" makes one`)
	}
	for _, candidate := range all {
		if c.Name != "" && c.Name != candidate.Name {
			continue
		}
		files, err := candidate.Files()
		if err != nil {
			return candidate, nil, err
		}
		if c.Name != "" || p.differs(files) {
			return candidate, files, nil
		}
	}
	if c.Name == "" {
		return all[0], nil, nil // every backup is as the files are
	}
	return backup.Backup{}, nil, output.WithHint(fmt.Errorf("no backup %q", c.Name), "localport config restore --list")
}

// differs reports whether restoring files would change something.
func (p commandProject) differs(files []backup.File) bool {
	current, err := project.ReadFiles(p.Config)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(files, func(f backup.File) bool {
		data := current.Config
		if f.Name == project.LocalName {
			data = current.Local
		}
		return string(f.Data) != string(data)
	})
}

// restoreFiles sets the files of a backup.
func (c *configChange) restoreFiles(files []backup.File) error {
	for _, file := range files {
		before := c.before.Config
		if file.Name == project.LocalName {
			before = c.before.Local
		}
		if err := c.set(filepath.Join(c.project.Root, file.Name), before, file.Data); err != nil {
			return err
		}
	}
	return nil
}

// replaceUnallowed shows the change, makes a backup, and writes the files without allowing them. like has files whose modes new ones get.
func (c *configChange) replaceUnallowed(a *app, like []backup.File) error {
	if err := c.check(); err != nil {
		c.review.secrets = c.project.secretsOf(c.after)
		for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
			output.Warn(a.err, line)
		}
	}
	c.print(a)
	made, err := c.project.backUp()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; nothing was written", err)
	}
	if err := c.createMissing(like); err != nil {
		return err
	}
	if err := c.write(a); err != nil {
		return err
	}
	if made.Name != "" {
		output.Info(a.err, "the files before are in backup %s", made.Name)
	}
	return c.project.sayWhetherAllowed(c, a)
}

// createMissing creates the files that do not exist with the modes that they had, so that write replaces them.
func (c *configChange) createMissing(like []backup.File) error {
	for i, file := range c.files {
		at := slices.IndexFunc(like, func(f backup.File) bool { return f.Name == filepath.Base(file.path) })
		if file.before != nil || at < 0 {
			continue
		}
		if err := edit.Create(file.path, file.after, like[at].Info.Mode().Perm()); err != nil {
			return explainReplaceError(err, file.path)
		}
		c.files[i].before = file.after
	}
	return nil
}

// sayWhetherAllowed says what is to be done after the files were replaced.
func (p commandProject) sayWhetherAllowed(c *configChange, a *app) error {
	verdict, _, err := p.AskTrust()
	if err != nil {
		return err
	}
	if verdict == trust.Allowed {
		output.Info(a.err, "this content was allowed before")
		return nil
	}
	return c.sayNext(a)
}

// backups is where the backups of the project's config are.
func (p commandProject) backups() backup.Store {
	return backup.StoreOf(filepath.Dir(p.Store.Dir), p.Config)
}

// backUp makes a backup of the config and the local override.
func (p commandProject) backUp() (backup.Backup, error) {
	paths := []string{p.Config}
	if filepath.Base(p.Config) == project.ConfigName {
		paths = append(paths, filepath.Join(p.Root, project.LocalName))
	}
	return p.backups().Create(paths, time.Now())
}

// listBackups prints a line for each backup.
func (p commandProject) listBackups(a *app) error {
	all, err := p.backups().List()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		output.Info(a.err, "%s has no backup", p.Config)
	}
	for _, one := range all {
		files, err := one.Files()
		if err != nil {
			return err
		}
		names := make([]string, len(files))
		for i, file := range files {
			names[i] = file.Name
		}
		age := time.Since(one.Time).Truncate(time.Second)
		if _, err := fmt.Fprintf(a.out, "%-18s  %s (%s ago)  %s\n", one.Name, one.Time.Local().Format("2006-01-02 15:04:05 MST"), age, strings.Join(names, ", ")); err != nil {
			return err
		}
	}
	return nil
}
