package main

import (
	"fmt"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/recipes"
	"github.com/localport-sh/localport/project"
)

type recipesCmd struct {
	Name string `arg:"" optional:"" help:"One of them; none prints all."`
}

// Help says what a recipe is for.
func (recipesCmd) Help() string {
	return "A recipe is a service for .localport.toml that goes through somebody else's bastion: " + strings.Join(recipes.Names(), ", ") +
		". Its words in capitals are yours to replace.\n\n" +
		"Any program that listens on a port it is told will do: command is its argv, with {port} in it. ready is an expression that fits the line " +
		"by which it says that it is up; needs_login fits the line by which it says that you must log in, and login is the program that " +
		"\"localport login\" then runs on your terminal."
}

// Run prints recipes.
func (c recipesCmd) Run(a *app) error {
	names := recipes.Names()
	if c.Name != "" {
		if _, ok := recipes.Text(c.Name); !ok {
			return output.Usage(fmt.Errorf("no recipe is called %q; there are %s%s", c.Name, strings.Join(names, ", "), near(c.Name, names)))
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

// near is the end of a message about an unknown name: what was probably meant, if anything.
func near(name string, names []string) string {
	if one := project.NearestName(name, names); one != "" {
		return fmt.Sprintf("; did you mean %q?", one)
	}
	return ""
}
