package main

import (
	"io"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/prompt"
	"github.com/localport-sh/localport/shellhook"
)

type hookCmd struct {
	Shell string `arg:"" help:"bash, zsh, fish, tcsh, elvish, nu or pwsh."`
	OnCd  bool   `help:"In bash, have cd, pushd and popd enter and leave projects at once, as in \"cd shop && make\". zsh and fish always do."`
}

// Help is the text below the usage.
func (hookCmd) Help() string {
	return `The hook starts a project's forwards when you enter its directory, and sets its variables.

  localport hook fish | source

The hook for PowerShell (pwsh) has not been run in PowerShell; parsers check its syntax. The lines for each shell: localport help hooks

Exit codes: 0 printed; 1 not printed; 2 unknown shell.`
}

// Run prints the hook, which calls this program by its absolute path.
func (c hookCmd) Run(a *app) error {
	hook, err := prompt.Hook(c.Shell, c.OnCd)
	if err == nil {
		_, err = io.WriteString(a.out.Data(), hook)
	}
	return err
}

// loginShellName returns args with a login shell's $0, such as "-bash", replaced by the name of the shell: it is not a flag.
func loginShellName(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		name := strings.TrimPrefix(arg, "-")
		if _, err := shellhook.Lookup(name); err == nil {
			args[i] = name
		}
	}
	return args
}
