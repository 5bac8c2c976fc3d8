package main

import (
	"fmt"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/recipes"
	"github.com/localport-sh/localport/project"
)

type recipesCmd struct {
	Name string `arg:"" optional:"" help:"A recipe; if none is given, all services are printed."`
}

// Help explains what a recipe is.
func (recipesCmd) Help() string {
	return "A recipe is a service for .localport.toml that connects through a cloud provider's proxy: " + strings.Join(recipes.Names(), ", ") +
		". Copy it and replace the words in capitals.\n\n" +
		"Others are for programs that have no prompt, and say in which file to write what: " + strings.Join(recipes.SetupNames(), ", ") + ".\n\n" +
		"Any program that can listen on a given port works the same way: \"command\" is the program and its arguments, with {port} for the port. " +
		"\"ready\" is a regular expression for the line that it prints when it is ready; \"needs_login\" is one for the line that it prints when you " +
		"must log in. \"login\" is the program that \"localport login\" then runs in your terminal.\n\n" +
		"Example: localport recipes cloud-sql\n\n" +
		"Exit codes: 0 printed; 1 not printed; 2 unknown recipe."
}

// Run prints recipes.
func (c recipesCmd) Run(a *app) error {
	names := recipes.Names()
	if c.Name != "" {
		if _, ok := recipes.Text(c.Name); !ok {
			names = append(names, recipes.SetupNames()...)
			return output.Usage(fmt.Errorf("unknown recipe %q (%s)%s", c.Name, strings.Join(names, ", "), project.SuggestNearest(c.Name, names)))
		}
		names = []string{c.Name}
	}
	for i, name := range names {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		text, _ := recipes.Text(name)
		fmt.Fprint(a.out, text)
	}
	return nil
}
