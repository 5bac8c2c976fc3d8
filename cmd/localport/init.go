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
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/edit"
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
	if err := edit.Create(target, []byte(config.text), 0o644); errors.Is(err, edit.ErrChanged) {
		return existsError(target)
	} else if err != nil {
		return err
	}
	count := countOf("service", services)
	if services == 0 {
		count = "no services yet"
	}
	output.Info(a.err, "wrote %s: %s", target, count)
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
		return "", existsError(path)
	}
	return path, nil
}

// existsError says what to do instead if there is a config already.
func existsError(path string) error {
	return output.WithHint(fmt.Errorf("%s exists already, and was not changed", output.EscapeLine(path)),
		`add a service with "localport add", or change the file with "localport edit"; --print shows what init would write`)
}

// checkNewConfig returns the mistakes and warnings of a new config, and the number of its services.
func checkNewConfig(path, text string) (warnings []string, services int) {
	written := commandProject{&client.Project{Config: path, Root: filepath.Dir(path)}}
	parsed, err := parseNewConfig(path, text, written.checkPath)
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
