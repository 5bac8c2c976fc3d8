package completion

import (
	"fmt"
	"strings"
)

// tables are how a script sets a variable to the commands or the flags of a command: as a statement. none is the statement for an unknown one.
type tables struct {
	commands, flags func(command) string
	none            string
}

// caseTables writes the functions of bash and zsh that know the command line: __localport_commands, _flags and _argument for a command's path,
// _value for a path and a flag.
func caseTables(root command, t tables) string {
	var b strings.Builder
	table := func(name, none string, cases func(add func(pattern, statement string))) {
		fmt.Fprintf(&b, "__localport_%s() {\n  case $1 in\n", name)
		cases(func(pattern, statement string) { fmt.Fprintf(&b, "    %s) %s ;;\n", pattern, statement) })
		fmt.Fprintf(&b, "    *) %s ;;\n  esac\n}\n", none)
	}
	result := func(text string) string { return "__localport_result=" + quote(text) }
	table("commands", t.none, func(add func(pattern, statement string)) {
		for _, c := range root.all() {
			if len(c.commands) > 0 {
				add(quote(c.path), t.commands(c))
			}
		}
	})
	table("flags", t.none, func(add func(pattern, statement string)) {
		for _, c := range root.all() {
			if len(c.flags) > 0 {
				add(quote(c.path), t.flags(c))
			}
		}
	})
	table("argument", result(""), func(add func(pattern, statement string)) {
		for _, c := range root.all() {
			if code := c.argument.code(); code != "" {
				add(quote(c.path), result(code))
			}
		}
	})
	table("value", result(""), func(add func(pattern, statement string)) {
		cases := root.valueCases()
		for _, key := range sortedKeys(cases) {
			pattern := quote(key)
			if strings.HasPrefix(key, " ") { // a flag of all commands
				pattern = "*" + pattern
			}
			add(pattern, result(cases[key]))
		}
	})
	return b.String()
}
