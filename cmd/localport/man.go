package main

import (
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/manpage"
)

type manCmd struct {
	Date string `env:"-" placeholder:"DATE" help:"The date of the program: 2026-01-31."`
}

// Run prints the manual page, for packages: localport man | man -l -
func (c manCmd) Run(a *app, command *kong.Context) error {
	_, err := fmt.Fprint(a.out.Data(), manpage.Page(command.Model, c.Date))
	return err
}
