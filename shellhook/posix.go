package shellhook

import (
	_ "embed"
	"strings"
)

//go:embed hook.bash
var hookBash string

//go:embed hook.zsh
var hookZsh string

// Quote makes one word of any value, for POSIX sh and the shells that descend from it: single quotes, in which only
// the single quote itself is special.
func Quote(value string) string {
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// export and unset are quoted against aliases of those names.

type bash struct{}

func (bash) Name() string { return "bash" }

func (bash) Export(name, value string) string { return statement(`\export `, name, "="+Quote(value)) }

// Unset names variables only: without -v, a function of that name would go instead.
func (bash) Unset(name string) string { return statement(`\unset -v `, name, "") }

func (bash) Set(name, value string) string { return statement("", name, "="+Quote(value)) }

func (bash) Hook(exe string) string { return "__localport_exe=" + Quote(exe) + "\n" + hookBash }

type zsh struct{}

func (zsh) Name() string { return "zsh" }

func (zsh) Export(name, value string) string { return statement(`\export `, name, "="+Quote(value)) }

func (zsh) Unset(name string) string { return statement(`\unset -v `, name, "") }

func (zsh) Set(name, value string) string {
	return statement(`\typeset -g +x `, name, "="+Quote(value))
}

// Hook is parsed, and its functions run, under zsh's own options and without aliases, whatever the user has set.
func (zsh) Hook(exe string) string {
	text := "__localport_exe=" + Quote(exe) + "\n" + hookZsh
	return `\builtin emulate -R zsh -o no_aliases -c ` + Quote(text) + "\n"
}

func statement(verb, name, rest string) string {
	if !isName(name) {
		return ""
	}
	return verb + name + rest + ";\n"
}
