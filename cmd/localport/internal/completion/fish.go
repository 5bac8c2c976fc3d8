package completion

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed fish.fish
var fishCode string

// fishScript has one line "complete" for each command, flag and argument.
func fishScript(root command) string {
	var b strings.Builder
	b.WriteString(fishCode)
	fmt.Fprintf(&b, "set -g __localport_commands %s\n", strings.Join(fishPaths(root), " "))
	fmt.Fprintf(&b, "set -g __localport_valued %s\n", strings.Join(fishValued(root), " "))
	b.WriteString("complete -c localport -f\n")
	for _, c := range root.all() {
		at := fmt.Sprintf("complete -c localport -n %s", quoteFish("__localport_at "+quoteFish(c.path)))
		for _, child := range c.commands {
			fmt.Fprintf(&b, "%s -a %s -d %s\n", at, child.name(), quoteFish(child.help))
		}
		for _, f := range c.flags {
			line := at
			if c.path == "" { // a flag of all commands
				line = "complete -c localport -n 'not __localport_in_program'"
			}
			for _, name := range f.names {
				if strings.HasPrefix(name, "--") {
					line += " -l " + name[2:]
				} else {
					line += " -s " + name[1:]
				}
			}
			fmt.Fprintf(&b, "%s%s -d %s\n", line, fishValue(f.value, " -x -a ", " -r -F", " -x"), quoteFish(f.help))
		}
		if c.argument.code() != "" {
			if c.argument.kind == program {
				continue // see __localport_in_program
			}
			fmt.Fprintf(&b, "%s%s\n", at, fishValue(c.argument, " -a ", " -F", ""))
		}
	}
	return b.String()
}

// fishValue is the options of a line "complete" for a value: of words, of files, or of anything.
func fishValue(v value, words, files, anything string) string {
	switch code := v.code(); {
	case code == "":
		return ""
	case len(v.words) > 0:
		return words + quoteFish(strings.Join(v.words, " "))
	case code == directories:
		return words + quoteFish("(__fish_complete_directories)")
	case code == "files":
		return files
	case code == "any":
		return anything
	}
	return words + quoteFish("(__localport_names "+v.kind+")")
}

// fishPaths are the commands' paths, quoted.
func fishPaths(root command) (paths []string) {
	for _, c := range root.all() {
		if c.path != "" {
			paths = append(paths, quoteFish(c.path))
		}
	}
	return paths
}

// fishValued are the flags that have a value, as "PATH FLAG", quoted.
func fishValued(root command) (flags []string) {
	cases := root.valueCases()
	for _, key := range sortedKeys(cases) {
		flags = append(flags, quoteFish(key))
	}
	return flags
}

func quoteFish(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
