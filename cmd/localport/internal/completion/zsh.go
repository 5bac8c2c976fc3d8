package completion

import (
	_ "embed"
	"strings"
)

//go:embed zsh.zsh
var zshCode string

// zshScript is also a file of fpath, as its first line says.
func zshScript(root command) string {
	list := func(entries []string) string { return "__localport_list=(" + strings.Join(entries, " ") + ")" }
	entry := func(name, help string) string { return quote(strings.ReplaceAll(name, ":", `\:`) + ":" + help) }
	return zshCode + caseTables(root, tables{
		commands: func(c command) string {
			var entries []string
			for _, child := range c.commands {
				entries = append(entries, entry(child.name(), child.help))
			}
			return list(entries)
		},
		flags: func(c command) string {
			var entries []string
			for _, f := range c.flags {
				for _, name := range f.names {
					entries = append(entries, entry(name, f.help))
				}
			}
			return list(entries)
		},
		none: "__localport_list=()",
	}) + zshEnd
}

// zshEnd completes where compinit has loaded the file, and registers the completion where the file is sourced.
const zshEnd = `if [[ $funcstack[1] == _localport ]]; then
  __localport_complete
elif (( $+functions[compdef] )); then
  compdef __localport_complete localport
else
  print -u2 'localport: the completion needs compinit, which must run first'
fi
`
