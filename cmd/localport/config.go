package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

type configCmd struct {
	Validate validateCmd     `cmd:"" help:"Check the config; the project need not be allowed."`
	Show     configShowCmd   `cmd:"" help:"Print every value of the config, and where it comes from."`
	Export   configExportCmd `cmd:"" help:"Print the config as TOML, YAML or JSON, without secrets."`
	Migrate  migrateCmd      `cmd:"" help:"Convert an older config, or that of the Python LocalPort."`
	Backup   backupCmd       `cmd:"" help:"Copy the config into localport's data directory."`
	Restore  restoreCmd      `cmd:"" help:"Restore the config from a backup."`
	Schema   schemaCmd       `cmd:"" help:"Print the JSON Schema of .localport.toml, for editors."`
}

type schemaCmd struct{}

// Help says how editors use the schema.
func (schemaCmd) Help() string {
	return "With the line \"#:schema " + project.SchemaURL + "\" at the beginning of .localport.toml, editors complete and check the file " +
		"(Even Better TOML, taplo, tombi). A copy on this machine works too: \"#:schema ./localport.schema.json\".\n\n" +
		"Example: localport config schema > localport.schema.json\n\n" +
		"Exit codes: 0 printed; 1 not printed; 2 wrong usage."
}

// Run prints the schema.
func (schemaCmd) Run(a *app) error {
	_, err := fmt.Fprint(a.out.Data(), project.JSONSchema)
	return err
}

type validateCmd struct{}

// Help is the text below the usage.
func (validateCmd) Help() string {
	return `It also checks that the files and programs that the config names exist.

Example: localport config validate

Exit codes: 0 valid, also with warnings; 1 the config is missing or cannot be read; 2 wrong usage; 3 it, or your own config, is invalid.`
}

// Run reports every error of the project's config or, if it has none, every error of the user's config.
func (validateCmd) Run(a *app, p commandProject) error {
	_, files, err := p.AskTrust() // which adds the .env that a git worktree runs with
	if err != nil {
		return err
	}
	options := p.parseOptions()
	options.CheckPath = p.checkPath
	parsed, err := project.Parse(files, options)
	if err != nil {
		if complete, parseErr := p.parseConfig(files); parseErr == nil { // only something that it needs is missing here
			a.printWarnings(slices.Concat(complete.Warnings, complete.Advice))
		}
		return err
	}
	a.printWarnings(slices.Concat(parsed.Warnings, parsed.Advice))
	if err := checkHealthChecks(parsed); err != nil {
		return output.WithExitCode(err, output.ExitInvalid)
	}
	_, err = fmt.Fprintf(a.out, "%s: valid, %d %s\n", output.EscapeLine(p.Config), len(parsed.Services), plural("service", len(parsed.Services)))
	if err != nil {
		return err
	}
	if _, err := client.ReadUser(); err != nil {
		return output.WithExitCode(err, output.ExitInvalid)
	}
	return nil
}

// checkPath returns an error for a file that cannot be read, or a program that cannot be run. A program that is looked for in PATH is installed;
// any other is written as a path, relative to the project's root.
func (p commandProject) checkPath(use project.PathUse) error {
	if !use.IsProgram {
		return checkFile(use.Path)
	}
	_, err := process.LookPath(use.Path, environ.Undo(environ.Parse(os.Environ())).List(), p.Root)
	if missing, ok := errors.AsType[*process.NotFoundError](err); ok {
		if missing.Path == "" {
			return fmt.Errorf("%s: no such file; a relative path starts at the project's root", missing.Name)
		}
		return fmt.Errorf("program %q is not in PATH: install it, or write its full path", use.Path)
	}
	return err
}

// checkFile returns an error for a file that is missing or cannot be read.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no such file; correct the path, or create the file", path)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s: is a directory; write the path of a file", path)
	case !info.Mode().IsRegular(): // to open a pipe would wait for its other end
		return nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: permission denied; make the file readable for you", path)
	}
	if err == nil {
		_ = file.Close()
	}
	return err
}

// checkHealthChecks returns an error for each health check whose keys, or the files that they name, are invalid.
func checkHealthChecks(parsed *project.Project) error {
	var errs []error
	for _, svc := range parsed.Services {
		if _, err := builtin.NewCheck(svc.HealthCheck); err != nil {
			errs = append(errs, fmt.Errorf("service %q: health_check: %w", svc.Name, err))
		}
	}
	return errors.Join(errs...)
}
