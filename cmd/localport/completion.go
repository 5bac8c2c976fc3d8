package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/completion"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/recipes"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/examples"
)

type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish."`
}

// Help says where the script belongs.
func (completionCmd) Help() string {
	return "The script is static: create it again after an upgrade, or evaluate it in the shell's start-up file:\n\n" +
		"  source <(localport completion bash)        # ~/.bashrc\n" +
		"  source <(localport completion zsh)         # ~/.zshrc, after compinit\n" +
		"  localport completion fish > ~/.config/fish/completions/localport.fish\n\n" +
		"Exit codes: 0 printed; 1 not printed; 2 unknown shell."
}

// Run prints the completion script of a shell.
func (c completionCmd) Run(a *app, command *kong.Context) error {
	words := completion.Words{
		"hook shell": shellhook.Names(), "completion shell": {"bash", "zsh", "fish"}, "recipes name": recipes.Names(), "init example": examples.Names(),
		"forward forward": {"kubectl", "ssh", "tcp"},
	}
	script, err := completion.Script(c.Shell, command.Model, words)
	if err != nil {
		return output.Usage(err)
	}
	_, err = fmt.Fprint(a.out.Data(), script)
	return err
}

// completeNames prints names of a kind from the project's config files, or the kubeconfig, for the completion scripts. It asks nobody, and says
// nothing if there is no project, or if its config cannot be read: the terminal shows a command line that is being edited. args are the kind, -C
// and -c.
func completeNames(a *app, args []string) int {
	for i := 1; i+1 < len(args); i += 2 {
		switch args[i] {
		case "-C", "--dir":
			a.dir = args[i+1]
		case "-c", "--config":
			a.config = args[i+1]
		}
	}
	if a.dir == "" {
		a.dir = "."
	}
	if args[0] == completion.Contexts {
		return completeContexts(a)
	}
	config, err := a.findConfig()
	if err != nil {
		return output.ExitFailed
	}
	files, err := project.ReadFiles(config)
	if err != nil {
		return output.ExitFailed
	}
	services, tags := files.Names()
	names := services
	switch args[0] {
	case completion.Tags:
		names = tags
	case completion.Logs:
		names = append(names, "supervisor")
	}
	return printNames(a, names)
}

// completeContexts prints the names of the contexts of the kubeconfig files that can be read.
func completeContexts(a *app) int {
	config, err := kubeconfig.Load(session.KubeconfigFiles("", os.Environ(), a.dir)...)
	code := printNames(a, slices.Sorted(maps.Keys(config.Contexts)))
	if err != nil {
		return output.ExitFailed
	}
	return code
}

// printNames prints a line for each name, with one system call.
func printNames(a *app, names []string) int {
	var lines strings.Builder
	for _, name := range names {
		lines.WriteString(name + "\n")
	}
	if _, err := io.WriteString(a.out.Data(), lines.String()); err != nil {
		return output.ExitFailed
	}
	return 0
}
