package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/shellhook"
)

type hookCmd struct {
	Shell string `arg:"" help:"bash, zsh, fish, tcsh, elvish or nu."`
}

// Run prints the hook, which calls this binary by its absolute path.
func (c hookCmd) Run(a *app) error {
	shell, err := shellhook.Lookup(c.Shell)
	if err != nil {
		return output.Usage(err)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.out.Data(), shell.Hook(exe))
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
