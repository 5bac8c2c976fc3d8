package completion

import (
	_ "embed"
	"strings"
)

//go:embed bash.sh
var bashCode string

// bashScript also runs in bash 3.2: it uses no associative array.
func bashScript(root command) string {
	list := func(names []string) string { return "__localport_result=" + quote(strings.Join(names, " ")) }
	return bashCode + caseTables(root, tables{
		commands: func(c command) string {
			var names []string
			for _, child := range c.commands {
				names = append(names, child.name())
			}
			return list(names)
		},
		flags: func(c command) string {
			var names []string
			for _, f := range c.flags {
				names = append(names, f.names...)
			}
			return list(names)
		},
		none: "__localport_result=''",
	}) + "complete -F __localport_complete localport\n"
}
