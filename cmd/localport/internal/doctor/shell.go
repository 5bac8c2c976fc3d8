package doctor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/shellhook"
)

// startupFile is what a shell reads when it starts, and the line that loads the hook there.
type startupFile struct{ shell, path, line string }

// startupFileOf returns the file for a shell; false if the shell has no hook.
func startupFileOf(shell string, env map[string]string) (startupFile, bool) {
	home, config := env["HOME"], cmp.Or(env["XDG_CONFIG_HOME"], filepath.Join(env["HOME"], ".config"))
	f := startupFile{shell: shell, line: fmt.Sprintf(`eval "$(localport hook %s)"`, shell)}
	switch shell {
	case "bash":
		f.path = filepath.Join(home, ".bashrc")
	case "zsh":
		f.path = filepath.Join(cmp.Or(env["ZDOTDIR"], home), ".zshrc")
	case "fish":
		f.path, f.line = filepath.Join(config, "fish/config.fish"), "localport hook fish | source"
	case "tcsh":
		f.path, f.line = filepath.Join(home, ".tcshrc"), "eval \"`localport hook tcsh`\""
	case "elvish":
		f.path, f.line = filepath.Join(config, "elvish/rc.elv"), "eval (localport hook elvish | slurp)"
	default:
		return startupFile{}, false
	}
	return f, true
}

// appendCommand is the command that adds the line to the end of the file.
func (f startupFile) appendCommand() string {
	return fmt.Sprintf("mkdir -p %s && echo %s >> %s", shellhook.Quote(filepath.Dir(f.path)), shellhook.Quote(f.line), shellhook.Quote(f.path))
}

var (
	hookLinePattern  = project.LazyRegexp(`localport\S*["']?\s+hook\b`)
	otherToolPattern = project.LazyRegexp(`\b(direnv)\s+hook\b|\b(mise)\s+activate\b|\b(starship)\s+init\b`)
	// What replaces the list of functions that run at each prompt, instead of adding to it.
	listReplacedPattern = project.LazyRegexp(`^\s*(?:export\s+)?(?:PROMPT_COMMAND=[^$]*$|precmd_functions=\([^$]*\)$)`)
)

// startupLines is where a start-up file has which line, from 1; 0: nowhere.
type startupLines struct {
	hookLine, listResetLine int
	otherHooks              map[string]int
}

func (f startupFile) read() startupLines {
	lines := startupLines{otherHooks: make(map[string]int)}
	data, _ := os.ReadFile(f.path)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case hookLinePattern().MatchString(line):
			lines.hookLine = number
		case listReplacedPattern().MatchString(line):
			lines.listResetLine = number
		}
		if match := otherToolPattern().FindStringSubmatch(line); match != nil {
			lines.otherHooks[strings.Join(match[1:], "")] = number
		}
	}
	return lines
}

// describe names the place of the hook, and its order beside the hooks of other programs.
func (l startupLines) describe(f startupFile) string {
	parts := []string{fmt.Sprintf("%s:%d", f.path, l.hookLine)}
	for _, name := range slices.Sorted(keysOf(l.otherHooks)) {
		order := "before"
		if l.otherHooks[name] < l.hookLine {
			order = "after"
		}
		parts = append(parts, order+" "+name)
	}
	return strings.Join(parts, ", ")
}

// checkHook tells whether the shell that localport was started from has the hook: by its lease, or by what the hook exports in a project, else by
// the shell's start-up file.
func checkHook(_ context.Context, s *Subject) []Finding {
	pid, shell, isInteractive := leaseholder.FindShell()
	if !isInteractive {
		shell = filepath.Base(s.Env["SHELL"])
	}
	file, hasHook := startupFileOf(shell, s.Env)
	if !hasHook {
		return skip(fmt.Sprintf("the start-up file of the shell %q is not known; \"localport exec\" and \"localport start\" need no hook", shell))
	}
	lines := file.read()
	isLoaded := os.Getenv("LOCALPORT_DIFF") != "" || pid > 0 && hasShellLease(pid)
	switch {
	case lines.hookLine > 0 && lines.listResetLine > lines.hookLine:
		return warn(fmt.Sprintf("%s:%d replaces what runs at each prompt, after the hook was loaded at line %d", file.path, lines.listResetLine, lines.hookLine), file.appendCommand())
	case lines.hookLine > 0 && !isLoaded && isInteractive && s.isReviewed() && len(s.Config.Services) > 0:
		return warn(fmt.Sprintf("not loaded in this %s (pid %d), although %s has it: the shell was started before the line was added", shell, pid, file.path), "exec "+shell)
	case lines.hookLine > 0:
		return ok(fmt.Sprintf("%s, by %s", map[bool]string{true: "loaded in this " + shell, false: "loaded by new shells (" + shell + ")"}[isLoaded], lines.describe(file)))
	case isLoaded:
		return ok(fmt.Sprintf("loaded in this %s, but not by %s", shell, file.path))
	}
	return warn(fmt.Sprintf("%s does not load the hook: cd starts no forwards in %s", file.path, shell), file.appendCommand())
}

// MissingHook returns the start-up file of the shell that localport was started from, and the line that loads the hook there. It is not missing if the
// file has it, if the shell has loaded it from elsewhere, or if the shell is not known.
func MissingHook(env map[string]string) (shell, path, line string, isMissing bool) {
	pid, shell, isInteractive := leaseholder.FindShell()
	if !isInteractive {
		shell = filepath.Base(env["SHELL"])
	}
	file, hasHook := startupFileOf(shell, env)
	if !hasHook || os.Getenv("LOCALPORT_DIFF") != "" || file.read().hookLine > 0 || pid > 0 && hasShellLease(pid) {
		return "", "", "", false
	}
	return shell, file.path, file.line, true
}

// hasShellLease reports whether a shell has a lease on a project, which its hook has taken.
func hasShellLease(pid int) bool {
	dirs, _ := lockstate.ListDirs()
	return slices.ContainsFunc(dirs, func(dir *lockstate.Dir) bool {
		return slices.ContainsFunc(dir.ReadOrZero().Leases, func(l lockstate.Lease) bool {
			return l.Kind == lockstate.ShellLease && l.PID == pid && l.IsAlive()
		})
	})
}

// checkPath finds the programs named localport in PATH.
func checkPath(_ context.Context, s *Subject) []Finding {
	var found []string
	var infos []os.FileInfo
	for _, dir := range filepath.SplitList(s.Env["PATH"]) {
		path := filepath.Join(dir, "localport")
		if _, err := exec.LookPath(path); err != nil || !filepath.IsAbs(path) {
			continue
		}
		info, err := os.Stat(path)
		if err != nil || slices.ContainsFunc(infos, func(other os.FileInfo) bool { return os.SameFile(info, other) }) {
			continue
		}
		found, infos = append(found, path), append(infos, info)
	}
	own, err := os.Stat(s.Exe)
	switch {
	case len(found) == 0:
		return warn("localport is not in PATH", s.installCommand())
	case err == nil && !os.SameFile(own, infos[0]):
		return warn(fmt.Sprintf("PATH finds %s, but this is %s", found[0], s.Exe), "ln -sf "+shellhook.Quote(s.Exe)+" "+shellhook.Quote(found[0]))
	case len(found) > 1:
		text := fmt.Sprintf("PATH has several localport programs: %s is used, %s", found[0], strings.Join(found[1:], ", "))
		return warn(text+map[bool]string{true: " is not", false: " are not"}[len(found) == 2], "rm "+shellhook.Quote(found[1]))
	}
	return ok(found[0])
}

// installCommand puts a link to this program into a directory of PATH that is meant for such or, if there is none, its directory into PATH.
func (s *Subject) installCommand() string {
	inPath := filepath.SplitList(s.Env["PATH"])
	for _, dir := range []string{filepath.Join(s.Env["HOME"], ".local/bin"), filepath.Join(s.Env["HOME"], "bin"), "/usr/local/bin"} {
		if slices.Contains(inPath, dir) && isWritable(dir) {
			return fmt.Sprintf("ln -s %s %s", shellhook.Quote(s.Exe), shellhook.Quote(filepath.Join(dir, "localport")))
		}
	}
	file, hasHook := startupFileOf(filepath.Base(s.Env["SHELL"]), s.Env)
	if !hasHook {
		return "add " + filepath.Dir(s.Exe) + " to PATH"
	}
	line := `export PATH="$PATH:` + filepath.Dir(s.Exe) + `"`
	return startupFile{path: file.path, line: line}.appendCommand()
}
