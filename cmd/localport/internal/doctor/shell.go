package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/leaseholder"
	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/startupfile"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project/environ"
)

// loadHere says that a line can be run in a shell instead of adding it to a file.
const loadHere = "this command loads it in one shell"

// checkHook tells whether the shell that localport was started from has the hook: by its lease, or by what the hook exports in a project, else by
// the shell's start-up file.
func checkHook(_ context.Context, s *Subject) []Finding {
	pid, shell, isInteractive := leaseholder.FindShell()
	if !isInteractive {
		shell = filepath.Base(s.Env["SHELL"])
	}
	file, hasHook := startupfile.Of(shell, s.getenv)
	if !hasHook {
		return skip(fmt.Sprintf("the start-up file of the shell %q is not known; \"localport exec\" and \"localport start\" need no hook", shell))
	}
	contents := file.Read()
	isLoaded := os.Getenv("LOCALPORT_DIFF") != "" || pid > 0 && hasShellLease(pid)
	switch {
	case contents.HookLine > 0 && contents.ListResetLine > contents.HookLine:
		return s.warnHook(file, fmt.Sprintf("%s:%d replaces what runs at each prompt, after the hook was loaded at line %d", contents.Path, contents.ListResetLine, contents.HookLine))
	case contents.HookLine > 0 && !isLoaded && isInteractive && s.isReviewed() && len(s.Config.Services) > 0:
		return warn(fmt.Sprintf("not loaded in this %s (pid %d), although %s has it: the shell was started before the line was added", shell, pid, contents.Path), replaceShell(shell))
	case contents.HookLine > 0:
		return ok(fmt.Sprintf("%s, by %s", map[bool]string{true: "loaded in this " + shell, false: "loaded by new shells (" + shell + ")"}[isLoaded], contents))
	case isLoaded:
		return ok(fmt.Sprintf("loaded in this %s, but not by %s", shell, file.Path))
	}
	return s.warnHook(file, fmt.Sprintf("%s does not load the hook: cd starts no forwards in %s", file.Path, shell))
}

// replaceShell is the command with which a shell becomes a new one. PowerShell cannot, but start one.
func replaceShell(shell string) string {
	if shell == "pwsh" {
		return shell
	}
	return "exec " + shell
}

// warnHook returns a warning that the hook's line is missing at the end of a file. Where the user may not write that, the line itself is the fix.
func (s *Subject) warnHook(file startupfile.File, text string) []Finding {
	if file.CanAppend() {
		return warn(text, s.appendCommand(file, file.HookLine))
	}
	reason := "you may not write to it"
	if home := s.Env["HOME"]; home != "" && !isDirectory(home) {
		reason = "HOME is " + home + ", which is not a directory"
	}
	return warn(fmt.Sprintf("%s; %s, and %s", text, reason, loadHere), file.HookLine)
}

// appendCommand is the command that adds a line to the end of a file.
func (s *Subject) appendCommand(file startupfile.File, line string) string {
	command := "echo " + output.QuoteFor(file.Shell, line) + " >> " + s.word(file.Path)
	dir := filepath.Dir(file.Path)
	if isDirectory(dir) {
		return command
	}
	separator := " && "
	if file.Shell == "elvish" {
		separator = "; "
	}
	return "mkdir -p " + s.word(dir) + separator + command
}

// word returns a path as a word of a command line that every shell understands, and that does not name the home directory: "~/x", "/tmp/'a b'".
func (s *Subject) word(path string) string {
	home := s.Env["HOME"]
	if below, isBelow := strings.CutPrefix(path, strings.TrimSuffix(home, "/")+"/"); isBelow && filepath.IsAbs(home) && home != "/" {
		return "~/" + output.ShellWord(below)
	}
	return output.ShellWord(path)
}

func (s *Subject) getenv(name string) string { return s.Env[name] }

// MissingHook returns the start-up file of the shell that localport was started from, and the line that loads the hook there. It is not missing if the
// file has it, if the shell has loaded it from elsewhere, or if the shell is not known.
func MissingHook(env environ.Env) (shell, path, line string, isMissing bool) {
	pid, shell, isInteractive := leaseholder.FindShell()
	if !isInteractive {
		shell = filepath.Base(env["SHELL"])
	}
	file, hasHook := startupfile.Of(shell, func(name string) string { return env[name] })
	if !hasHook || os.Getenv("LOCALPORT_DIFF") != "" || file.Read().HookLine > 0 || pid > 0 && hasShellLease(pid) {
		return "", "", "", false
	}
	return shell, file.Path, file.HookLine, true
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
		return warn(fmt.Sprintf("PATH finds %s, but this is %s", found[0], s.Exe), "ln -sf "+s.word(s.Exe)+" "+s.word(found[0]))
	case len(found) > 1:
		text := fmt.Sprintf("PATH has several localport programs: %s is used, %s", found[0], strings.Join(found[1:], ", "))
		return warn(text+map[bool]string{true: " is not", false: " are not"}[len(found) == 2], "rm "+s.word(found[1]))
	}
	return ok(found[0])
}

// installCommand puts a link to this program into a directory of PATH that is meant for such or, if there is none, its directory into PATH.
func (s *Subject) installCommand() string {
	inPath := filepath.SplitList(s.Env["PATH"])
	for _, dir := range []string{filepath.Join(s.Env["HOME"], ".local/bin"), filepath.Join(s.Env["HOME"], "bin"), "/usr/local/bin"} {
		if slices.Contains(inPath, dir) && isWritable(dir) {
			return "ln -s " + s.word(s.Exe) + " " + s.word(filepath.Join(dir, "localport"))
		}
	}
	dir := filepath.Dir(s.Exe)
	file, hasHook := startupfile.Of(filepath.Base(s.Env["SHELL"]), s.getenv)
	if !hasHook || !file.CanAppend() || strings.ContainsAny(dir, "\"\\$`!\n") {
		return "add " + dir + " to PATH"
	}
	if file.Shell == "elvish" {
		dir = s.word(dir)
	} else if below, isBelow := strings.CutPrefix(dir, s.Env["HOME"]+"/"); isBelow && s.Env["HOME"] != "" {
		dir = "$HOME/" + below // a quoted ~ is not expanded
	}
	return s.appendCommand(file, file.PathLine(dir))
}
