package project

import "strings"

// reservedPrefixes begin the names of localport's own variables and functions, which tell a shell what to undo.
var reservedPrefixes = []string{"LOCALPORT_", "__localport_"}

// unsettableVariables are the names that [env] must not set, with what they are: a shell refuses to set them, or would lose its prompt,
// its hooks or its place. The read-only ones are those of bash(1), zshparam(1) and fish(1).
var unsettableVariables = map[string]string{
	"PROMPT_COMMAND":    "it runs the hooks of bash",
	"PROMPT_COMMANDS":   "it runs the hooks of bash",
	"precmd_functions":  "it runs the hooks of zsh",
	"preexec_functions": "it runs the hooks of zsh",
	"chpwd_functions":   "it runs the hooks of zsh",

	"PWD":    "it is the shell's current directory",
	"OLDPWD": "it is the shell's previous directory",
	"CDPATH": `it changes where "cd" leads`,
	"IFS":    "it is how the shell splits words",
	"SHLVL":  "the shell counts itself in it",
	"_":      "the shell sets it with each command",

	"BASHOPTS": "it is read-only in bash", "BASH_VERSINFO": "it is read-only in bash", "SHELLOPTS": "it is read-only in bash",
	"EUID": "it is read-only in bash", "PPID": "it is read-only in bash and zsh", "UID": "it is read-only in bash",
	"ARGC": "it is read-only in zsh", "HISTCMD": "it is read-only in zsh", "LINENO": "it is read-only in zsh",
	"TTYIDLE": "it is read-only in zsh", "ZSH_EVAL_CONTEXT": "it is read-only in zsh", "ZSH_SUBSHELL": "it is read-only in zsh",
	"status":       "it is read-only in zsh and fish",
	"FISH_VERSION": "it is read-only in fish", "fish_pid": "it is read-only in fish", "history": "it is read-only in fish",
	"hostname": "it is read-only in fish", "pipestatus": "it is read-only in fish", "version": "it is read-only in fish",
}

// describeReservedName returns why [env] must not set a variable; empty if it may.
func describeReservedName(name string) string {
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return "variables that start with " + prefix + " belong to localport"
		}
	}
	return unsettableVariables[name]
}
