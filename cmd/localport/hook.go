package main

import (
	"fmt"
	"os"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/shellhook"
)

type hookCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish."`
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
