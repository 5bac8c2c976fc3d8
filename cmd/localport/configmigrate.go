package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/localportyaml"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/edit"
)

type migrateCmd struct {
	File string `arg:"" optional:"" type:"path" help:"The localport.yaml of the Python LocalPort; default: the one in the current directory."`
}

// Help says what is migrated.
func (migrateCmd) Help() string {
	return "Brings an older .localport.toml to the current version, or writes a .localport.toml from the localport.yaml of the Python LocalPort, which " +
		"stays as it is. It shows the difference, makes a backup first, and allows nothing. What has no counterpart is listed.\n\n" +
		"Examples:\n  localport config migrate\n  localport config migrate ../old/localport.yaml\n\n" +
		"Exit codes: 0 written, or nothing to do; 1 not written; 2 wrong usage."
}

// pythonConfigNames are the names of the Python LocalPort's configs.
var pythonConfigNames = []string{"localport.yaml", "localport.yml", ".localport.yaml", ".localport.yml"}

// Run migrates the config.
func (c migrateCmd) Run(a *app) error {
	p, err := a.findProject()
	_, isMissing := errors.AsType[*project.NotFoundError](err)
	if err != nil && !isMissing {
		return err
	}
	source := c.File
	if source == "" && isMissing {
		source = findPythonConfig(a.dir)
	}
	switch {
	case source == "" && isMissing:
		return err
	case source == "":
		return p.migrateVersion(a)
	case !isMissing:
		return output.WithHint(fmt.Errorf("%s exists already", output.EscapeLine(p.Config)), "see what the other file becomes: localport init --print --from "+output.ShellWord(source))
	}
	return a.migrateYAML(source)
}

func findPythonConfig(dir string) string {
	for _, name := range pythonConfigNames {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// migrateVersion brings a config to the current version: "1.0", of the Python LocalPort, is written "1".
func (p commandProject) migrateVersion(a *app) error {
	change, err := newConfigChange(p)
	if err != nil {
		return err
	}
	if change.before.Config == nil {
		return &fs.PathError{Op: "open", Path: p.Config, Err: fs.ErrNotExist}
	}
	err = change.setConfig(func(text []byte) ([]byte, error) {
		if !project.HasOldVersion(text) {
			return text, nil
		}
		return edit.SetKey(text, []string{"version"}, `"1"`)
	})
	if err != nil {
		return err
	}
	if len(change.files) == 0 {
		if _, err := p.parseConfig(change.before); err != nil { // a version that is unknown is none that is older
			return err
		}
		output.Info(a.err, "%s has the current version: nothing to do", p.Config)
		return nil
	}
	return change.replaceUnallowed(a, nil)
}

// migrateYAML writes a config from that of the Python LocalPort.
func (a *app) migrateYAML(source string) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	result, err := localportyaml.Convert(output.EscapeLine(filepath.Base(source)), data)
	if err != nil {
		return hintFormat(err)
	}
	dir, err := filepath.EvalSymlinks(a.dir)
	if err != nil {
		return err
	}
	p, err := a.openConfig(filepath.Join(dir, project.ConfigName))
	if err != nil {
		return err
	}
	change, err := newConfigChange(p)
	if err != nil {
		return err
	}
	if err := change.set(p.Config, nil, []byte(result.Text())); err != nil {
		return err
	}
	if err := change.replaceUnallowed(a, nil); err != nil {
		return err
	}
	printFindings(a, result.Findings)
	return nil
}

func printFindings(a *app, findings []convert.Finding) {
	for _, finding := range findings {
		output.Info(a.err, "%s", finding)
	}
}
