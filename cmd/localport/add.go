package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
	"github.com/localport-sh/localport/project/edit"
	"github.com/localport-sh/localport/project/paste"
)

type addCmd struct {
	Name       string   `env:"-" placeholder:"NAME" help:"The service's name; by default, one that says what it is."`
	Local      bool     `env:"-" help:"Write it to .localport.local.toml, which is yours alone, instead of .localport.toml."`
	DryRun     bool     `env:"-" help:"Print what would be added instead of writing it."`
	Namespace  string   `short:"n" env:"-" help:"Kubernetes namespace; by default, that of the context."`
	Context    string   `env:"-" help:"Kubernetes context; by default, the current one."`
	Kubeconfig string   `env:"-" placeholder:"FILE" help:"Kubeconfig file."`
	Args       []string `arg:"" optional:"" passthrough:"" name:"forward" help:"TYPE/NAME [LOCAL:]REMOTE, the command line of kubectl port-forward or ssh, tcp HOST:PORT [LOCAL], NAME URL, or - for standard input."`
}

// Help says what can be pasted, and where it is written.
func (addCmd) Help() string {
	return "Paste the command that you use now, as words or as one quoted text. The service is added to the nearest .localport.toml; if there is none, " +
		"one is created in the current directory. Nothing else in the file changes. If the file was allowed before, the change that is shown is allowed with it.\n\n" +
		"--name NAME, --dry-run and --local may stand anywhere, also after kubectl's or ssh's own arguments, but not after the words of a remote command or \"--\". " +
		"A target that another service of the project has already is added only if you give it a name, by --name or NAME URL, or agree at the terminal.\n\n" +
		"  localport add kubectl port-forward -n db svc/postgres 5432\n" +
		"  localport add ssh -L 6379:10.0.0.5:6379 bastion\n" +
		"  localport add db postgres://app@db.internal/shop\n" +
		"  pbpaste | localport add -\n\n" +
		"Exit codes: 0 added; 1 not added; 2 wrong usage; 3 the config would be invalid."
}

// Run adds the services, and shows and allows this change.
func (c addCmd) Run(a *app, command *kong.Context) error {
	forward := forwardCmd{Namespace: c.Namespace, Context: c.Context, Kubeconfig: c.Kubeconfig, Args: c.Args}
	words, own := forward.words()
	if own.help {
		return command.PrintUsage(false)
	}
	p, err := a.projectToEdit()
	if err != nil {
		return err
	}
	change, err := newConfigChange(p)
	if err != nil {
		return err
	}
	pasted, err := c.parse(a.pasteOptions(command, "--dry-run", "--local"), words, change.before)
	if err != nil {
		return err
	}
	c.DryRun = c.DryRun || slices.Contains(pasted.Flags, "--dry-run")
	c.Local = c.Local || slices.Contains(pasted.Flags, "--local")
	for _, note := range pasted.Notes {
		output.Info(a.err, "%s", note)
	}
	if err := c.addTo(a, change, pasted); err != nil {
		return err
	}
	if err := c.checkTargets(a, change, pasted); err != nil {
		return err
	}
	if c.DryRun {
		return printAddition(a, pasted)
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.CommandTimeout()) // from now: a person may have taken longer to answer
	defer cancel()
	return change.apply(ctx, a)
}

// checkTargets points out the services whose target another service has already. Those without a name of their own are added only if the user agrees.
func (c addCmd) checkTargets(a *app, change *configChange, pasted paste.Result) error {
	var found []string
	existing := change.servicesOf(change.before)
	isAdded := func(svc project.Service) bool {
		return slices.ContainsFunc(pasted.Services, func(added draft.Service) bool { return added.Name == svc.Name })
	}
	for _, svc := range change.servicesOf(change.after) {
		if other, isFound := findSameTarget(existing, svc); isFound && isAdded(svc) {
			found = append(found, describeSameTarget(other))
		}
	}
	if len(found) == 0 {
		return nil
	}
	d := openDialog()
	defer d.close()
	text := strings.Join(found, "; ")
	if c.DryRun || len(pasted.WrittenNames) > 0 || d != nil {
		output.Info(a.err, "%s", text)
	}
	if c.DryRun || len(pasted.WrittenNames) > 0 {
		return nil
	}
	if d == nil {
		return output.WithHint(errors.New("not added: "+text), "use that service; to add a second one, name it: localport add --name NAME …")
	}
	isAgreed, err := d.confirm(context.Background(), "Add it all the same?", answerNo)
	if err == nil && !isAgreed {
		err = output.WithHint(errors.New("nothing was written"))
	}
	return err
}

// parse reads what was pasted. It gives no service a name or port that the project uses.
func (c addCmd) parse(options paste.Options, words []string, files *project.Files) (pasted paste.Result, err error) {
	names, _ := files.Names()
	isNameTaken := func(name string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return project.EnvPrefix(n) == project.EnvPrefix(name) })
	}
	options.Name, options.IsNameTaken = c.Name, isNameTaken
	for _, port := range files.LocalPorts() {
		options.Ports.Add(port.Service, port.Address, port.Port)
	}
	if len(words) > 0 && words[0] == "-" {
		text, readErr := readPasted()
		if readErr != nil {
			return pasted, fmt.Errorf("read the standard input: %w", readErr)
		}
		pasted, err = paste.ParseText(text, options, words[1:]...)
	} else {
		pasted, err = paste.Parse(words, options)
	}
	if err != nil {
		return pasted, describePasteError(err)
	}
	if at := slices.IndexFunc(pasted.WrittenNames, isNameTaken); at >= 0 {
		name := pasted.WrittenNames[at]
		return pasted, output.WithHint(fmt.Errorf("service %q exists already", name), "choose another name with --name, or remove that service first: localport remove "+name)
	}
	return pasted, nil
}

// printAddition prints what would be added, as the text of a config.
func printAddition(a *app, pasted paste.Result) error {
	for _, secret := range pasted.Secrets {
		output.Info(a.err, "%s would be added to %s", secret.Name, project.EnvName)
	}
	_, err := fmt.Fprint(a.out.Data(), draft.Config{Services: pasted.Services, Env: pasted.Env}.Tables())
	return err
}

// maxPasted is how much the standard input may have, in bytes: command lines are shorter.
const maxPasted = 64 << 10

// readPasted reads the standard input.
func readPasted() (string, error) {
	text, err := io.ReadAll(io.LimitReader(os.Stdin, maxPasted+1))
	if err == nil && len(text) > maxPasted {
		err = fmt.Errorf("it has more than %d KiB: give it the command lines only", maxPasted>>10)
	}
	return string(text), err
}

// addTo adds what was pasted to the files: services and entries of [env] to the config, passwords to .env.
func (c addCmd) addTo(a *app, change *configChange, pasted paste.Result) error {
	setText := change.setConfig
	switch {
	case c.Local && change.before.LocalPath == "":
		return output.Usage(errors.New("--local needs a project whose config is " + project.ConfigName))
	case c.Local && change.before.Config == nil:
		return output.WithHint(fmt.Errorf("there is no %s here", project.ConfigName), "create one first: localport init")
	case c.Local:
		setText = change.setLocal
	}
	if err := change.addServices(setText, pasted.Services); err != nil {
		return err
	}
	for _, entry := range pasted.Env {
		err := setText(func(text []byte) ([]byte, error) { return addVariable(a, text, entry) })
		if err != nil {
			return err
		}
	}
	return addSecrets(a, change, pasted.Secrets)
}

// addVariable adds an entry to [env]. One that is there stays as it is.
func addVariable(a *app, text []byte, entry draft.Entry) ([]byte, error) {
	if edit.HasKey(text, "env", entry.Key) {
		output.Info(a.err, "[env] has %s already; it stays as it is, the new address is %s", entry.Key, entry.Value)
		return text, nil
	}
	return edit.SetKey(text, []string{"env", entry.Key}, draft.FormatValue(entry.Value))
}

// addSecrets adds passwords to .env. A variable that is there stays as it is.
func addSecrets(a *app, change *configChange, secrets []paste.Variable) error {
	if len(secrets) == 0 {
		return nil
	}
	text := string(change.before.DotEnv)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, secret := range secrets {
		if change.before.HasVariable(secret.Name) {
			output.Info(a.err, "%s has %s already; its value stays as it is", project.EnvName, secret.Name)
			continue
		}
		text += secret.Name + "='" + strings.ReplaceAll(secret.Value, "'", `'"'"'`) + "'\n"
	}
	return change.set(change.before.DotEnvPath, change.before.DotEnv, []byte(text))
}

// projectToEdit returns the project that -c names, or the nearest one. If there is none, its config will be created, in the current directory.
func (a *app) projectToEdit() (commandProject, error) {
	p, err := a.findProject()
	if !errors.As(err, new(*project.NotFoundError)) {
		return p, err
	}
	dir, err := project.PhysicalPath(a.dir)
	if err != nil {
		return p, err
	}
	return a.openConfig(filepath.Join(dir, project.ConfigName))
}
