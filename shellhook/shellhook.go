// Package shellhook contains what is specific to each shell: the hooks for interactive shells, and the
// statements that change variables. The hooks are the files hook.bash, hook.zsh and so on.
//
// A hook runs
//
//	<exe> export <shell> --pid PID --root ROOT --line LINE --told TOLD --retry RETRY --saves [--tools] [--cd] [--unfinished DIRECTORIES] [--limit LIMIT] [--hold]
//
// and evaluates its output only when the shell's project may have changed, which it checks with builtins
// alone. ROOT, LINE, TOLD and RETRY are the values of the shell variables
// below. LIMIT is set when a failed export is repeated: the prompt waits no longer than that. Hooks of older
// releases, in shells that are still open, know neither RETRY nor LIMIT. DIRECTORIES, each with a newline, is UnfinishedVariable. --saves says that the shell has the functions for Save, Restore,
// Left and Watch, and passes the value of DiffVariable as LOCALPORT_DIFF, whatever the user has done to that. --tools says
// that it has those for Assign, SaveBase and RestoreBase, and runs an export when a tool like direnv has set its variables again. --cd says that a prompt follows, at which the hook looks again at what is missing now.
package shellhook

import (
	"fmt"
	"path/filepath"
	"strings"
)

// The shell variables of the hook, for Shell.Set. They are not exported. Every export sets all of them, before anything that
// may fail in the shell, so that it is not repeated needlessly.
const (
	RootVariable     = "__localport_root" // the root of the project that the shell is in, allowed or not; "" if it is in none
	DirVariable      = "__localport_dir"  // the directory with the files named below; "" if there is none
	LineVariable     = "__localport_line" // the contents of PromptFile at the last export
	ReportedVariable = "__localport_told" // passed to the next export as --told; opaque
	// RetryVariable is passed to the next export as --retry; opaque. A hook that passes it repeats a failed export.
	RetryVariable = "__localport_retry"
	// RecheckVariable is 1 if the next prompt must run an export, because one at a cd (--cd) did not find a variable that [env] uses.
	RecheckVariable = "__localport_recheck"
	// TriedVariable has the reason for which the last export ran; another export with the same reason does not run after one that has failed. It is
	// cleared if files wait to be allowed: each of their changes is the same reason. elvish does not read it.
	TriedVariable = "__localport_tried"
	// VariablesVariable has the names of the project's variables in the shell, separated by spaces: the hook prints them if localport is gone.
	VariablesVariable = "__localport_variables"
	// UnfinishedVariable is cleared at the end of the output. Until then it has the directories of exports whose output the shell has not
	// evaluated, because the user interrupted them: one may have entered a project. It is passed to the next export as --unfinished.
	UnfinishedVariable = "__localport_unfinished"
	// HeldVariable has messages that the next prompt prints, because a line is being edited (--hold).
	HeldVariable = "__localport_held"
	// DiffVariable is a copy of LOCALPORT_DIFF, which the user may unset. Only hooks that pass --saves use it.
	DiffVariable = "__localport_diff"
)

// The files in DirVariable's directory that the hooks read, and lockstate writes. PromptFile holds one line, "N PID START": a number that
// each change increases, and the supervisor's pid and start time (0 0: none should run). A stamp has the exact modification time that the
// file in the project's root had at the last export; if there was no file, there is no stamp.
const (
	PromptFile      = "prompt"
	PromptLink      = "prompt.link"  // a symbolic link to PromptFile's line, for tcsh: it can compare the target of a link, but not read a file
	ConfigStampFile = "stamp.config" // .localport.toml
	LocalStampFile  = "stamp.local"  // .localport.local.toml
	EnvStampFile    = "stamp.env"    // .env
)

// Shell generates code for one shell. Statements end with ";\n", in nushell with "\n"; values may hold any byte but 0. An invalid variable name
// yields no statement, because the shell would evaluate it as code.
type Shell interface {
	Name() string
	// Quote quotes a value as one word.
	Quote(value string) string
	// Export sets a variable and exports it.
	Export(name, value string) string
	// Unset removes a variable.
	Unset(name string) string
	// Assign is Export or, without a value, Unset; a hook that passes --tools says once if the variable cannot be set.
	Assign(name string, value *string) string
	// Save exports a variable like Export, but the shell first saves what the user has by that name, with its attributes, and reports
	// once that a variable cannot be set. With isUpdate, the present value is ours: it is not saved.
	Save(name, value string, isUpdate bool) string
	// Restore restores what Save has saved. If another shell has saved it, previous is the value; nil: there was none.
	Restore(name string, previous *string) string
	// SaveBase tells the shell what a variable was before another tool set what Save has saved; nil: it was not set. The shell may know more of
	// it. RestoreBase restores that.
	SaveBase(name string, base *string) string
	RestoreBase(name string, base *string) string
	// Left has the next prompts undo what another hook puts back.
	Left() string
	// Watch has the prompts run an export when one of these variables changes.
	Watch(names []string) string
	// Set sets a global variable without exporting it. Under bash's set -a only the hooks keep it unexported.
	Set(name, value string) string
	// Hook returns the code to evaluate once in an interactive shell; exe is the absolute path of localport. If there is none at that
	// path any more, the hook calls the first one in PATH.
	Hook(exe string) string
}

// CdWrapper is a Shell without an event for cd. OnCd returns code that follows the hook's: cd itself then enters and leaves projects, which
// otherwise happens at the next prompt.
type CdWrapper interface {
	OnCd() string
}

var shells = []Shell{
	bash{savingCode{Quote}},
	zsh{savingCode{Quote}},
	fish{savingCode{quoteFish}},
	tcsh{environmentCode{set: "setenv ", assign: " ", unset: "unsetenv ", quote: quoteTcsh}},
	elvish{environmentCode{set: "set-env ", assign: " ", unset: "unset-env ", quote: quoteElvish}},
	nu{},
	pwsh{environmentCode{set: "$env:", assign: " = ", unset: "$env:", unsetEnd: " = $null", quote: quotePwsh}},
}

// Lookup finds a shell by its name, or by the path or the login name ("-zsh") it was started as.
func Lookup(name string) (Shell, error) {
	base := strings.TrimPrefix(filepath.Base(name), "-")
	for _, s := range shells {
		if s.Name() == base {
			return s, nil
		}
	}
	return nil, fmt.Errorf("unsupported shell %q (%s)", name, strings.Join(Names(), ", "))
}

// Names returns the names of the shells.
func Names() (names []string) {
	for _, s := range shells {
		names = append(names, s.Name())
	}
	return names
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

// savingCode generates the calls of the functions of the hooks that save variables. They are the same in all shells but for the quoting.
type savingCode struct{ quote func(string) string }

func (c savingCode) Quote(value string) string { return c.quote(value) }

func (c savingCode) Save(name, value string, isUpdate bool) string {
	if isUpdate {
		return statement("__localport_set ", name, " "+c.quote(value)+" update")
	}
	return statement("__localport_set ", name, " "+c.quote(value))
}

func (c savingCode) Assign(name string, value *string) string {
	return c.call("__localport_assign ", name, value)
}

func (c savingCode) Restore(name string, previous *string) string {
	return c.call("__localport_restore ", name, previous)
}

func (c savingCode) SaveBase(name string, base *string) string {
	return c.call("__localport_save_base ", name, base)
}

func (c savingCode) RestoreBase(name string, base *string) string {
	return c.call("__localport_restore_base ", name, base)
}

// call returns the call of a function with the name of a variable and, unless it is nil, a value.
func (c savingCode) call(function, name string, value *string) string {
	if value == nil {
		return statement(function, name, "")
	}
	return statement(function, name, " "+c.quote(*value))
}

func (savingCode) Left() string { return "__localport_left;\n" }

func (savingCode) Watch(names []string) string {
	return strings.Join(append([]string{"__localport_watch"}, validNames(names)...), " ") + ";\n"
}

// environmentCode generates the statements of shells whose variables are apart from the environment. Such a shell needs no functions that
// save: LOCALPORT_DIFF has what the environment was.
type environmentCode struct {
	set, assign     string // before the name of a variable, and before its value
	unset, unsetEnd string // before and after the name
	quote           func(string) string
}

func (c environmentCode) Quote(value string) string { return c.quote(value) }

func (c environmentCode) Export(name, value string) string {
	return statement(c.set, name, c.assign+c.quote(value))
}

func (c environmentCode) Unset(name string) string { return statement(c.unset, name, c.unsetEnd) }

func (c environmentCode) Save(name, value string, _ bool) string { return c.Export(name, value) }

func (c environmentCode) Assign(name string, value *string) string {
	if value == nil {
		return c.Unset(name)
	}
	return c.Export(name, *value)
}

func (c environmentCode) Restore(name string, previous *string) string {
	return c.Assign(name, previous)
}

func (environmentCode) SaveBase(string, *string) string { return "" }

func (c environmentCode) RestoreBase(name string, base *string) string { return c.Restore(name, base) }

func (environmentCode) Left() string { return "" }

func validNames(names []string) (valid []string) {
	for _, name := range names {
		if isName(name) {
			valid = append(valid, name)
		}
	}
	return valid
}
