// Package startupfile knows the files that shells read when they start: where they are, which of their lines load LocalPort's hook, and how those are
// removed.
package startupfile

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// File is the start-up file of a shell to which people add the line that loads the hook.
type File struct {
	Shell, Path string
	HookLine    string
	others      []string // files that the shell reads too
}

// Of returns the file of a shell; false if it has no hook, or none that is loaded by a line.
func Of(shell string, getenv func(name string) string) (File, bool) {
	d := newDirs(getenv)
	f := File{Shell: shell, HookLine: fmt.Sprintf(`eval "$(localport hook %s)"`, shell)}
	switch shell {
	case "bash":
		f.Path, f.others = filepath.Join(d.home, ".bashrc"), joinEach(d.home, ".bash_profile", ".bash_login", ".profile")
	case "zsh":
		f.Path, f.others = filepath.Join(d.zsh, ".zshrc"), joinEach(d.zsh, ".zprofile", ".zshenv", ".zlogin")
	case "fish":
		f.Path, f.HookLine = filepath.Join(d.config, "fish/config.fish"), "localport hook fish | source"
		f.others, _ = filepath.Glob(filepath.Join(d.config, "fish/conf.d/*.fish"))
	case "tcsh":
		f.Path, f.HookLine, f.others = filepath.Join(d.home, ".tcshrc"), "eval \"`localport hook tcsh`\"", joinEach(d.home, ".cshrc", ".login")
	case "elvish":
		f.Path, f.HookLine, f.others = filepath.Join(d.config, "elvish/rc.elv"), "eval (localport hook elvish | slurp)", joinEach(d.home, ".elvish/rc.elv")
	case "pwsh":
		f.Path, f.HookLine = filepath.Join(d.config, "powershell/Microsoft.PowerShell_profile.ps1"), "localport hook pwsh | Out-String | Invoke-Expression"
		f.others = joinEach(d.config, "powershell/profile.ps1")
	default:
		return File{}, false
	}
	return f, true
}

// PathLine returns the line that appends a directory to PATH in the file. Variables in dir are expanded by shells with double quotes.
func (f File) PathLine(dir string) string {
	switch f.Shell {
	case "fish":
		return `set -gx PATH $PATH "` + dir + `"`
	case "tcsh":
		return `setenv PATH "${PATH}:` + dir + `"`
	case "elvish":
		return `set paths = [$@paths ` + dir + `]`
	case "pwsh":
		return `$env:PATH += ":` + dir + `"`
	}
	return `export PATH="$PATH:` + dir + `"`
}

// CanAppend reports whether this user may append to the file, or make it.
func (f File) CanAppend() bool {
	for path := f.Path; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		switch {
		case err == nil && path == f.Path:
			return info.Mode().IsRegular() && unix.Access(path, unix.W_OK) == nil
		case err == nil:
			return info.IsDir() && unix.Access(path, unix.W_OK) == nil
		case path == "/":
			return false
		}
		if _, err := os.Lstat(path); err == nil { // a link to a file that does not exist
			return false
		}
	}
}

// All returns the start-up files of all shells that have a hook, whether they exist or not.
func All(getenv func(name string) string) []string {
	var files []string
	for _, shell := range []string{"bash", "zsh", "fish", "tcsh", "elvish", "pwsh"} {
		f, _ := Of(shell, getenv)
		files = append(append(files, f.Path), f.others...)
	}
	d := newDirs(getenv)
	if d.zsh != d.home { // ZDOTDIR may not have been set when the line was added
		files = append(files, joinEach(d.home, ".zshrc", ".zprofile", ".zshenv", ".zlogin")...)
	}
	return append(files, joinEach(d.config, "nushell/config.nu", "nushell/env.nu")...)
}

// FindScripts returns the files in the shells' directories that localport has printed.
func FindScripts(getenv func(name string) string) (scripts []string) {
	d := newDirs(getenv)
	for _, path := range append(joinEach(d.data, "nushell/vendor/autoload/localport.nu", "bash-completion/completions/localport"),
		joinEach(d.config, "fish/completions/localport.fish", "fish/conf.d/localport.fish")...) {
		if isScript(path) {
			scripts = append(scripts, path)
		}
	}
	return scripts
}

// isScript reports whether localport has printed a file: all its scripts define functions or variables with a prefix.
func isScript(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && bytes.Contains(data, []byte("__localport_"))
}

// dirs are the directories in which shells look for their files.
type dirs struct{ home, config, data, zsh string }

func newDirs(getenv func(name string) string) dirs {
	home := getenv("HOME")
	if home == "" { // shells set it then
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	return dirs{
		home: home, zsh: absoluteOr(getenv("ZDOTDIR"), home),
		config: absoluteOr(getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")),
		data:   absoluteOr(getenv("XDG_DATA_HOME"), filepath.Join(home, ".local/share")),
	}
}

// absoluteOr returns a directory from the environment if it is absolute, as the XDG specification requires, else the default.
func absoluteOr(dir, fallback string) string {
	if filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return fallback
}

// joinEach returns the paths of files in a directory.
func joinEach(dir string, names ...string) []string {
	paths := slices.Clone(names)
	for i, name := range paths {
		paths[i] = filepath.Join(dir, name)
	}
	return paths
}
