package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
)

// explainEmptyArgument says what has probably made an argument empty, and how to write the command instead: the shell that called localport has
// expanded a variable that only the project sets. The text is empty if no argument is, or the shell has the project's variables.
func explainEmptyArgument(argv []string, entries []project.EnvEntry, shell environ.Env) (text, hint string) {
	first := slices.Index(argv, "")
	if first < 0 {
		return "", ""
	}
	var names []string
	for _, entry := range entries {
		if value, _ := shell.Lookup(entry.Name); value == "" && !slices.Contains(names, entry.Name) {
			names = append(names, entry.Name)
		}
	}
	if len(names) == 0 {
		return "", ""
	}
	name := names[0]
	if i := slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, "_URL") }); i >= 0 {
		name = names[i] // the variable that is most often an argument
	}
	what := "the command"
	if first > 0 {
		what = fmt.Sprintf("argument %d of %s", first, argv[0])
	}
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = process.QuoteWord(arg)
	}
	words[first] = fmt.Sprintf(`"$%s"`, name)
	return fmt.Sprintf("%s is empty; the shell expands variables such as $%s before localport sets them", what, name),
		"localport exec -- sh -c " + output.ShellQuote(strings.Join(words, " "))
}
