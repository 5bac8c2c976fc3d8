package project

import (
	"slices"
	"strings"
)

// reservedPrefixes begin the names of localport's own variables and functions, which tell a shell what to undo.
var reservedPrefixes = []string{"LOCALPORT_", "__localport_"}

// unsettableVariables are the names that [env] must not set, by the reason: a shell refuses to set them or changes the value, or it would
// lose its prompt, its hooks or its place. They are those of bash(1), zshparam(1), zshmodules(1) and fish(1), as far as a shell that is told
// to export NAME=7 does not pass 7 on to programs silently.
var unsettableVariables = map[string][]string{
	"LocalPort finds its own files by it": {"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"},

	"it runs the hooks of bash": {"PROMPT_COMMAND", "PROMPT_COMMANDS"},
	"it runs the hooks of zsh":  {"precmd_functions", "preexec_functions", "chpwd_functions"},

	"it is the shell's current directory":                 {"PWD"},
	"it is the shell's previous directory":                {"OLDPWD"},
	`it changes where "cd" leads`:                         {"CDPATH", "cdpath"},
	"it is how the shell splits words":                    {"IFS"},
	"the shell counts itself in it":                       {"SHLVL"},
	"the shell sets it with each command":                 {"_"},
	"it ends a shell that waits for a command":            {"TMOUT"},
	"it limits how functions call each other":             {"FUNCNEST"},
	"it is the character that starts a history expansion": {"HISTCHARS", "histchars"},
	"assigning it changes the user of zsh":                {"USERNAME"},
	"assigning it changes the group of zsh":               {"GID", "EGID"},

	"it is read-only in bash":         {"BASHOPTS", "BASH_VERSINFO", "SHELLOPTS", "EUID", "UID"},
	"it is read-only in bash and zsh": {"PPID"},
	"bash computes it": {
		"BASHPID", "BASH_ARGC", "BASH_ARGV", "BASH_ARGV0", "BASH_COMMAND", "BASH_LINENO", "BASH_REMATCH", "BASH_SOURCE", "BASH_SUBSHELL",
		"EPOCHREALTIME", "EPOCHSECONDS", "FUNCNAME", "GROUPS", "PIPESTATUS", "RANDOM", "SECONDS", "SRANDOM",
	},
	"bash keeps its own data in it": {"BASH_ALIASES", "BASH_CMDS", "DIRSTACK"},
	"bash gives it a meaning":       {"BASH_COMPAT", "BASH_XTRACEFD", "EXECIGNORE", "GLOBIGNORE"},

	"it is read-only in zsh": {"ARGC", "HISTCMD", "LINENO", "TTYIDLE", "ZSH_EVAL_CONTEXT", "ZSH_SUBSHELL"},
	"zsh keeps its own data in it": {
		"WATCH", "aliases", "argv", "builtins", "commands", "dirstack", "dis_aliases", "dis_builtins", "dis_functions", "dis_functions_source",
		"dis_galiases", "dis_patchars", "dis_reswords", "dis_saliases", "epochtime", "errnos", "fignore", "fpath", "funcfiletrace",
		"funcsourcetrace", "funcstack", "functions", "functions_source", "functrace", "galiases", "historywords", "jobdirs", "jobstates",
		"jobtexts", "keymaps", "langinfo", "mailpath", "manpath", "mapfile", "module_path", "modules", "nameddirs", "options", "parameters",
		"patchars", "path", "psvar", "reswords", "saliases", "signals", "sysparams", "termcap", "terminfo", "userdirs", "usergroups", "watch",
		"widgets", "zle_bracketed_paste", "zsh_eval_context", "zsh_scheduled_events",
	},

	"it is read-only in zsh and fish": {"status"},
	"it is read-only in fish": {
		"FISH_VERSION", "fish_kill_signal", "fish_killring", "fish_pid", "history", "hostname", "pipestatus", "status_generation", "version",
	},
	"it is the mask of new files' modes in fish": {"umask"},
}

// describeReservedName returns why [env] must not set a variable; empty if it may.
func describeReservedName(name string) string {
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return "variables that start with " + prefix + " belong to localport"
		}
	}
	for reason, names := range unsettableVariables {
		if slices.Contains(names, name) {
			return reason
		}
	}
	return ""
}
