package main

import (
	"fmt"

	"github.com/localport-sh/localport/cmd/localport/internal/version"
)

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.out, "localport", version.Own())
	return err
}
