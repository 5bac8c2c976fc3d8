// Package leaseholder finds the process that a lease is taken for when no shell's hook names one: an agent, an editor, a task runner, or the
// shell whose direnv evaluates an .envrc.
package leaseholder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
)

// PIDVariable names the process in the environment, where the ancestors do not tell.
const PIDVariable = "LOCALPORT_LEASE_PID"

// ErrTunnel means that the caller was started by a service of a supervisor. Such processes take no lease: a service's program that runs a
// shell with a hook would otherwise keep its own project running.
var ErrTunnel = errors.New("a service started this process")

// process is what this package needs to know about a process.
type process struct {
	pid, parent int
	uid         int
	name        string   // of its program, without directory
	args        []string // its command line; empty if it cannot be read
	isFork      bool     // it has not executed a program since it was forked: a subshell
}

// Parse returns the process of a pid that the user gave, if a lease may be taken for it.
func Parse(text string) (lockstate.Process, error) {
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return lockstate.Process{}, fmt.Errorf("%q is not a process id", text)
	}
	p, err := readProcess(pid)
	if err != nil {
		return lockstate.Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return check(p)
}

// Find returns the process that the caller works for: the one of PIDVariable, or else an ancestor. That is the parent of the outermost
// shell that was started with -c, such as an agent, an editor or make: these shells live for one command only. The search ends at an
// interactive shell, because what is above it are other tasks of the user.
func Find() (lockstate.Process, error) {
	if os.Getenv(forwarder.RunVariable) != "" {
		return lockstate.Process{}, ErrTunnel
	}
	if text := os.Getenv(PIDVariable); text != "" {
		p, err := Parse(text)
		if err != nil {
			err = fmt.Errorf("%s: %w", PIDVariable, err)
		}
		return p, err
	}
	ancestors, err := readAncestors(os.Getppid())
	if err != nil {
		return lockstate.Process{}, err
	}
	chosen := choose(ancestors)
	for _, p := range ancestors { // the variable may have been removed on the way
		if hasRunVariable(p.pid) {
			return lockstate.Process{}, ErrTunnel
		}
		if p.pid == chosen.pid {
			break
		}
	}
	return check(chosen)
}

// readAncestors returns the process pid and its ancestors, the nearest first, without the subshells.
func readAncestors(pid int) (ancestors []process, err error) {
	for pid > 0 {
		p, err := readProcess(pid)
		if err != nil {
			if len(ancestors) > 0 {
				break // of another user, behind /proc's hidepid: it could hold no lease either
			}
			return nil, fmt.Errorf("the parent process %d: %w", pid, err)
		}
		if !p.isFork || p.parent <= 1 {
			ancestors = append(ancestors, p)
		}
		pid = p.parent
	}
	return ancestors, nil
}

// choose returns the process that the lease is for, from a process's ancestors, the nearest first.
func choose(ancestors []process) process {
	chosen := 0
	for i, p := range ancestors {
		if p.isInteractiveShell() || p.reasonToExclude() != "" {
			break
		}
		if !p.isCommandShell() || i+1 == len(ancestors) {
			continue
		}
		chosen = i + 1
		if ancestors[chosen].isInteractiveShell() {
			chosen = i // the user's own command line
		}
	}
	for chosen+1 < len(ancestors) && ancestors[chosen].isEnvironmentLoader() {
		chosen++
	}
	return ancestors[chosen]
}

// check returns p as a lease has it, unless none may be taken for it.
func check(p process) (lockstate.Process, error) {
	if reason := p.reasonToExclude(); reason != "" {
		return lockstate.Process{}, fmt.Errorf("no lease for process %d (%s): %s", p.pid, p.name, reason)
	}
	if p.uid != os.Getuid() {
		return lockstate.Process{}, fmt.Errorf("no lease for process %d (%s): it is another user's", p.pid, p.name)
	}
	if hasRunVariable(p.pid) {
		return lockstate.Process{}, ErrTunnel
	}
	found, ok := lockstate.FindProcess(p.pid)
	if !ok {
		return lockstate.Process{}, fmt.Errorf("process %d has ended", p.pid)
	}
	return found, nil
}

var (
	shells = []string{"sh", "bash", "zsh", "fish", "dash", "ash", "busybox", "ksh", "mksh", "ksh93", "tcsh", "csh", "elvish", "nu", "pwsh"}
	// Programs that outlive every task: a lease for one of them would keep the forwards until the user logs out or longer.
	serviceManagers = []string{
		"systemd", "init", "launchd", "openrc", "openrc-run", "runsv", "runsvdir", "s6-svscan", "s6-supervise", "supervisord",
		"cron", "crond", "anacron", "atd", "dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "conmon",
		"tini", "dumb-init", "catatonit", "dbus-daemon", "gnome-shell", "plasmashell", "Finder", "Dock",
	}
	terminals = []string{
		"gnome-terminal-server", "gnome-terminal-", "kgx", "ptyxis", "ptyxis-agent", "konsole", "yakuake", "xterm", "uxterm", "urxvt", "urxvtd", "rxvt", "st",
		"alacritty", "kitty", "wezterm", "wezterm-gui", "foot", "footclient", "ghostty", "tilix", "terminator", "xfce4-terminal", "mate-terminal",
		"lxterminal", "qterminal", "tilda", "guake", "Terminal", "iTerm2", "iTermServer", "WarpTerminal", "warp", "hyper", "login", "agetty", "getty",
	}
	multiplexers      = []string{"tmux", "tmux: server", "tmux: client", "screen", "SCREEN", "zellij", "dtach", "abduco", "mosh-server", "shpool"}
	remoteLogins      = []string{"sshd", "sshd-session", "dropbear"}
	environmentLoader = []string{"direnv", "mise", "asdf"}
)

// reasonToExclude says why no lease may be taken for p; "" if it may.
func (p process) reasonToExclude() string {
	switch {
	case p.pid == 1:
		return "it is the first process of the system and does not end"
	case p.isOwnProcess():
		return "it is LocalPort's supervisor or keeper and would keep itself running"
	case slices.Contains(serviceManagers, p.name):
		return "it is a service manager and does not end with the task"
	case slices.Contains(terminals, p.name):
		return "it is a terminal and does not end with the task"
	case slices.Contains(multiplexers, p.name):
		return "it is a terminal multiplexer and does not end with the task"
	case slices.Contains(remoteLogins, p.name):
		return "it is an ssh server and does not end with the task"
	}
	return ""
}

// isOwnProcess reports whether p is a supervisor or a keeper, of this program or of an earlier version that has been replaced.
func (p process) isOwnProcess() bool {
	if len(p.args) < 2 || p.args[1] != client.SuperviseArg && p.args[1] != client.KeeperArg {
		return false
	}
	own, _ := os.Executable()
	return p.args[0] == own || programName(p.args[0]) == "localport"
}

func (p process) isShell() bool { return slices.Contains(shells, p.name) }

// isCommandShell reports whether p is a shell that was started with -c: it runs one command.
func (p process) isCommandShell() bool {
	return p.isShell() && slices.ContainsFunc(p.options(), func(option string) bool {
		return option == "--command" || isShortOption(option) && strings.ContainsRune(option, 'c')
	})
}

// isInteractiveShell reports whether p is a shell without a command and without a script.
func (p process) isInteractiveShell() bool {
	if !p.isShell() || p.isCommandShell() || len(p.args) == 0 {
		return false
	}
	return len(p.options()) == len(p.args)-1
}

// options are the arguments before the first that is neither an option nor the value of one.
func (p process) options() (options []string) {
	if len(p.args) == 0 {
		return nil
	}
	args := p.args[1:]
	for i := 0; i < len(args); i++ {
		if len(args[i]) < 2 || args[i][0] != '-' && args[i][0] != '+' {
			break
		}
		options = append(options, args[i])
		takesValue := args[i] == "--rcfile" || args[i] == "--init-file" || isShortOption(args[i]) && strings.HasSuffix(args[i], "o") ||
			args[i] == "--init-command" || args[i] == "-C"
		if takesValue && i+1 < len(args) {
			i++
			options = append(options, args[i])
		}
	}
	return options
}

func isShortOption(option string) bool {
	return len(option) > 1 && option[0] == '-' && option[1] != '-'
}

// isEnvironmentLoader reports whether p evaluates the environment of a shell or an editor, its parent, and then ends. `direnv exec` is
// replaced by its command instead, and keeps its pid.
func (p process) isEnvironmentLoader() bool {
	if !slices.Contains(environmentLoader, p.name) {
		return false
	}
	return len(p.args) < 2 || p.args[1] != "exec" && p.args[1] != "x" && p.args[1] != "run"
}

// programName returns a program's name from its first argument or its path.
func programName(text string) string { return filepath.Base(strings.TrimPrefix(text, "-")) }
