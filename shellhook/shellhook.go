// Package shellhook speaks the shells' languages: the hooks that run in an interactive bash, zsh or fish, and the
// statements that change its variables. The hooks are the files hook.bash, hook.zsh and hook.fish.
//
// A hook looks at a project by running
//
//	<exe> export <shell> --pid PID --root ROOT --line LINE --told TOLD --retry RETRY [--limit LIMIT]
//
// and evaluates what that prints, when the project around the shell may have changed and never otherwise: what it
// compares, it compares with builtins. ROOT, LINE, TOLD and RETRY are the shell's variables that Set
// speaks of below. With LIMIT it is a look that failed before, and a prompt waits for it no longer than that. Hooks of older
// releases, in shells that are still open, know neither RETRY nor LIMIT.
package shellhook

import (
	"fmt"
	"path/filepath"
	"strings"
)

// The shell's bookkeeping, for Shell.Set. None of it is exported. All of it is set by every look, before anything that
// may fail in the shell, so that a look is not repeated for nothing.
const (
	RootVariable = "__localport_root" // the root of the project that the shell is in, allowed or not; "" outside of any
	DirVariable  = "__localport_dir"  // the directory with the files named below; "" if there is none
	LineVariable = "__localport_line" // what the file PromptFile held when the project was looked at
	ToldVariable = "__localport_told" // handed back by the next look as --told; opaque
	// RetryVariable is handed back as --retry; opaque. A hook that passes it on repeats a look that failed.
	RetryVariable = "__localport_retry"
)

// The files in Dir that prompts compare with. PromptFile holds one line, "N PID START" (PID 0: no process is meant to
// run). A stamp has the exact time of the file in the project's root as it was looked at, and is missing if that file
// was.
const (
	PromptFile      = "prompt"
	ConfigStampFile = "stamp.config" // .localport.toml
	LocalStampFile  = "stamp.local"  // .localport.local.toml
	EnvStampFile    = "stamp.env"    // .env
)

// Shell is one shell's language. Statements end with ";\n"; values may hold any byte but 0. A name that no variable
// can have yields no statement: what is not a name is code.
type Shell interface {
	Name() string
	// Export sets a variable of the shell and of what it starts.
	Export(name, value string) string
	// Unset removes a variable.
	Unset(name string) string
	// Set sets a global variable of the shell alone. Only the hooks keep it unexported under bash's set -a.
	Set(name, value string) string
	// Hook is the text to evaluate once in an interactive shell; exe is the absolute path of this program.
	Hook(exe string) string
}

var shells = []Shell{bash{}, zsh{}, fish{}}

// Lookup finds a shell by its name, or by the path or the login name ("-zsh") it was started as.
func Lookup(name string) (Shell, error) {
	base := strings.TrimPrefix(filepath.Base(name), "-")
	var known []string
	for _, s := range shells {
		if s.Name() == base {
			return s, nil
		}
		known = append(known, s.Name())
	}
	return nil, fmt.Errorf("unsupported shell %q (%s)", name, strings.Join(known, ", "))
}

// isName reports whether name can be a variable in every shell.
func isName(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return name != ""
}
