package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/project"
)

type initCmd struct {
	FromKubectl   bool        `xor:"source" env:"-" help:"Write services of the cluster that kubectl uses: at a terminal those that you pick, else all."`
	Namespace     string      `short:"n" placeholder:"NS" env:"-" help:"With --from-kubectl: the namespace; default: the context's."`
	Context       string      `placeholder:"NAME" env:"-" help:"With --from-kubectl: the context; default: the current one."`
	All           bool        `env:"-" help:"With --from-kubectl: all namespaces but kube-system, at most 200 services."`
	From          string      `xor:"source" placeholder:"FILE" type:"path" env:"-" help:"Convert a compose file, or the localport.yaml of the Python LocalPort."`
	FromSSHConfig bool        `name:"from-ssh-config" xor:"source" env:"-" help:"Convert LocalForward, RemoteForward and DynamicForward of ~/.ssh/config; with HOST, of those hosts only."`
	SSHFile       string      `name:"ssh-file" short:"F" placeholder:"FILE" type:"path" env:"-" help:"With --from-ssh-config: read FILE instead, as ssh -F does."`
	Example       exampleName `xor:"source" placeholder:"NAME" env:"-" help:"Write an example; without NAME, list them."`
	Print         bool        `aliases:"dry-run" env:"-" help:"Print the config instead of writing it; also --dry-run."`
	Hosts         []string    `arg:"" optional:"" name:"host" help:"Hosts of ~/.ssh/config, with --from-ssh-config."`
}

// exampleName is the value of --example, which may be left out.
type exampleName struct {
	name    string
	isGiven bool
}

// Decode implements kong.MapperValue.
func (e *exampleName) Decode(ctx *kong.DecodeContext) error {
	e.isGiven = true
	if token := ctx.Scan.Peek(); token.IsValue() && !strings.HasPrefix(token.String(), "-") {
		e.name = ctx.Scan.Pop().String()
	}
	return nil
}

//go:embed init.toml
var configTemplate string

// Help has examples.
func (initCmd) Help() string {
	return "Writes .localport.toml in the current directory, or in that of -C; an existing file is never changed. At a terminal, a few questions; " +
		"without one, a template with comments. Nothing starts before you have run \"localport allow\".\n\n" +
		"Passwords are never copied from other files: the config refers to variables, which you set in .env. What has no counterpart in " +
		"LocalPort is listed with its line, here and as comments in the file.\n\n" +
		"  localport init\n" +
		"  localport init --from-kubectl -n shop --context staging\n" +
		"  localport init --from docker-compose.yml\n" +
		"  localport init --from-ssh-config bastion\n" +
		"  localport init --example bastion --print\n\n" +
		"Exit codes: 0 written, 1 not written, 2 wrong usage."
}

// newConfig is the text of a config that has not been written yet.
type newConfig struct {
	text     string
	findings []convert.Finding
	// isReviewed is set if the user has seen all of it at the terminal, and agreed.
	isReviewed bool
}

// Run writes a config. Until it is complete, nothing is written.
func (c initCmd) Run(a *app) error {
	if err := c.checkUsage(); err != nil {
		return err
	}
	if c.Example.isGiven && c.Example.name == "" {
		return listExamples(a)
	}
	target, err := c.target(a)
	if err != nil {
		return err
	}
	ctx := context.Background()
	d := openDialog()
	defer d.close()
	config, err := c.compose(ctx, a, d, target)
	if err != nil {
		return err
	}
	warnings, services := checkNewConfig(target, config.text)
	if !config.isReviewed { // else they were in the text that the user has read
		for _, finding := range config.findings {
			output.Info(a.err, "%s", output.JoinLines(finding.String()))
		}
	}
	for _, warning := range warnings {
		fmt.Fprintln(a.err, "warning:", warning)
	}
	if c.Print {
		_, err := fmt.Fprint(a.out.Data(), config.text)
		return err
	}
	if err := createFile(target, config.text); err != nil {
		return explainExisting(err, target)
	}
	output.Info(a.err, "wrote %s: %d %s", target, services, plural("service", services))
	return c.finish(ctx, a, d, target, config)
}

// checkUsage rejects flags that belong to another source.
func (c initCmd) checkUsage() error {
	switch {
	case !c.FromKubectl && (c.Namespace != "" || c.Context != "" || c.All):
		return output.Usage(errors.New("--namespace, --context and --all need --from-kubectl"))
	case c.All && c.Namespace != "":
		return output.Usage(errors.New("--all and --namespace exclude each other"))
	case !c.FromSSHConfig && len(c.Hosts) > 0:
		return output.Usage(fmt.Errorf("unexpected argument %s: hosts need --from-ssh-config", c.Hosts[0]))
	case !c.FromSSHConfig && c.SSHFile != "":
		return output.Usage(errors.New("--ssh-file needs --from-ssh-config"))
	}
	return nil
}

// target returns the path of the file to write. It must not exist yet, unless the config is only printed.
func (c initCmd) target(a *app) (string, error) {
	path := a.config
	if path == "" {
		if a.dir == "" {
			return "", project.ErrDirectoryDeleted
		}
		path = filepath.Join(a.dir, project.ConfigName)
	}
	if _, err := os.Lstat(path); err == nil && !c.Print {
		return "", explainExisting(&os.PathError{Op: "create", Path: path, Err: os.ErrExist}, path)
	}
	return path, nil
}

// explainExisting says what to do instead if there is a config already.
func explainExisting(err error, path string) error {
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	return output.WithHint(fmt.Errorf("%s exists already, and is left as it is", path),
		`add a service with "localport add", or change the file with "localport edit"; --print shows what init would write`)
}

// createFile creates a file with all of its text at once; it fails if the file exists.
func createFile(path, text string) error {
	temporary := fmt.Sprintf("%s.%d.new", path, os.Getpid())
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Unwrap(err))
	}
	defer os.Remove(temporary)
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	err = os.Link(temporary, path) // unlike a rename, it never replaces a file
	if err == nil || errors.Is(err, os.ErrExist) {
		return err
	}
	return createWithoutLink(path, text) // some file systems have no links
}

func createWithoutLink(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// checkNewConfig returns the mistakes and warnings of a new config, and the number of its services.
func checkNewConfig(path, text string) (warnings []string, services int) {
	parsed, err := parseNewConfig(path, text)
	if invalid, ok := errors.AsType[*project.InvalidError](err); ok {
		for _, d := range invalid.Diagnostics {
			warnings = append(warnings, output.Diagnostic(d))
		}
		return warnings, strings.Count(text, "\n[services.")
	}
	if err != nil {
		return []string{output.JoinLines(err.Error())}, 0
	}
	if err := checkHealthChecks(parsed); err != nil {
		warnings = append(warnings, output.JoinLines(err.Error()))
	}
	for _, warning := range parsed.Warnings {
		warnings = append(warnings, output.Diagnostic(warning))
	}
	return warnings, len(parsed.Services)
}
