package main

import (
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
)

type versionCmd struct{}

// Help is the text below the usage.
func (versionCmd) Help() string {
	return `Example: localport version

Exit codes: 0 printed; 1 not printed; 2 wrong usage.`
}

func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.out, "localport", version.Own())
	return err
}

// versionFlag is kong.VersionFlag, which does not notice that its output could not be written.
type versionFlag bool

// BeforeReset prints the version, whatever else is on the command line.
func (versionFlag) BeforeReset(parser *kong.Kong, a *app) error {
	fmt.Fprintln(a.out, version.Own())
	parser.Exit(output.PrintError(a.err, a.addWriteError(nil)))
	return nil
}
