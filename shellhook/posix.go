package shellhook

import (
	_ "embed"
	"strings"
)

//go:embed hook.bash
var hookBash string

//go:embed oncd.bash
var onCdBash string

//go:embed hook.zsh
var hookZsh string

// Quote quotes a value as one word for POSIX shells: in single quotes, in which only
// the single quote is special.
func Quote(value string) string {
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// The backslash in \export and \unset prevents the expansion of aliases.

type bash struct{ savingCode }

func (bash) Name() string { return "bash" }

func (bash) Export(name, value string) string { return statement(`\export `, name, "="+Quote(value)) }

// Unset uses -v, because without it a function of that name could be removed instead.
func (bash) Unset(name string) string { return statement(`\unset -v `, name, "") }

func (bash) Set(name, value string) string { return statement("", name, "="+Quote(value)) }

func (bash) Hook(exe string) string { return "__localport_exe=" + Quote(exe) + "\n" + hookBash }

func (bash) OnCd() string { return onCdBash }

type zsh struct{ savingCode }

func (zsh) Name() string { return "zsh" }

func (zsh) Export(name, value string) string { return statement(`\export `, name, "="+Quote(value)) }

func (zsh) Unset(name string) string { return statement(`\unset -v `, name, "") }

func (zsh) Set(name, value string) string {
	return statement(`\typeset -g +x `, name, "="+Quote(value))
}

// Hook uses emulate, so that it is parsed and its functions run with zsh's default options, without aliases and without the user's traps.
func (zsh) Hook(exe string) string {
	text := "__localport_exe=" + Quote(exe) + "\n" + hookZsh
	return `\builtin emulate -R zsh -o no_aliases -o local_traps -o no_debug_before_cmd -c ` + Quote(text) + "\n"
}

func statement(verb, name, rest string) string {
	if !isName(name) {
		return ""
	}
	return verb + name + rest + ";\n"
}
