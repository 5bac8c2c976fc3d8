package leaseholder

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// proc returns a process by its command line. Its pid is set by newChain.
func proc(args ...string) process { return process{name: programName(args[0]), args: args} }

func newChain(processes ...process) []process {
	for i := range processes {
		processes[i].pid = 1000 - i
	}
	return processes
}

func TestChoose(t *testing.T) {
	zsh, server := proc("-zsh"), process{name: "tmux: server", args: []string{"tmux"}}
	for name, test := range map[string]struct {
		ancestors []process
		want      int // index in ancestors
	}{
		"an interactive shell":                    {newChain(zsh, server), 0},
		"a script":                                {newChain(proc("bash", "-e", "build.sh", "-c"), zsh, server), 0},
		"an agent's command":                      {newChain(proc("/bin/bash", "-c", "x"), proc("node", "agent"), zsh, server), 1},
		"a script of an agent's command":          {newChain(proc("bash", "x.sh"), proc("bash", "-lc", "x"), proc("agent"), zsh), 2},
		"nested commands":                         {newChain(proc("sh", "-c", "x"), proc("make"), proc("zsh", "-c", "make"), proc("code", "."), zsh), 3},
		"a command that the user typed":           {newChain(proc("bash", "-c", "x"), zsh, server), 0},
		"a make that the user started by a -c":    {newChain(proc("sh", "-c", "x"), proc("make"), proc("bash", "-c", "make"), zsh), 2},
		"make":                                    {newChain(proc("sh", "-c", "x"), proc("make"), zsh), 1},
		"direnv":                                  {newChain(proc("bash", "-c", "eval"), proc("direnv", "export", "zsh"), zsh, server), 2},
		"direnv of an editor":                     {newChain(proc("bash", "-c", "eval"), proc("direnv", "export", "json"), proc("code", "--type=utility"), zsh), 2},
		"direnv exec":                             {newChain(proc("bash", "-c", "eval"), proc("direnv", "exec", ".", "make"), zsh, server), 1},
		"a terminal that runs a command":          {newChain(proc("sh", "-c", "x"), server), 1},
		"above an interactive shell":              {newChain(proc("make"), zsh, proc("sh", "-c", "zsh"), server), 0},
		"options with values":                     {newChain(proc("make"), proc("bash", "--rcfile", "x", "-o", "vi", "-i"), proc("sh", "-c", "bash"), server), 0},
		"a shell without a readable command line": {newChain(process{name: "bash"}, zsh), 0},
	} {
		if got := choose(test.ancestors); got.pid != test.ancestors[test.want].pid {
			t.Errorf("%s: chose %v, want %v", name, got.args, test.ancestors[test.want].args)
		}
	}
}

func TestCheck_RefusesWhatDoesNotEndWithTheTask(t *testing.T) {
	for _, name := range []string{"systemd", "tmux: server", "sshd", "sshd-session", "cron", "gnome-terminal-", "screen"} {
		if _, err := check(process{pid: os.Getpid(), uid: os.Getuid(), name: name}); err == nil {
			t.Errorf("a lease for %s was granted", name)
		}
	}
	if _, err := check(process{pid: os.Getpid(), uid: os.Getuid() + 1, name: "node"}); err == nil {
		t.Error("a lease for another user's process was granted")
	}
}

func TestReadProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo; read -r _; exit # two words", "sh", "")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); _ = cmd.Wait() }()
	if _, err := stdout.Read(make([]byte, 1)); err != nil { // during execve(2), /proc has no command line
		t.Fatal(err)
	}
	p, err := readProcess(cmd.Process.Pid)
	if err != nil || p.parent != os.Getpid() || p.uid != os.Getuid() || p.isFork || !p.isCommandShell() || len(p.args) != 5 || p.args[4] != "" {
		t.Errorf("got %+v, %v", p, err)
	}
}

// A subshell is a copy of its shell, with the same command line: it must not be taken for another shell.
func TestReadProcess_RecognizesSubshells(t *testing.T) {
	cmd := exec.Command("bash", "-c", `(echo $BASHPID; read -r _) ; true`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); _ = cmd.Wait() }()
	text := make([]byte, 16)
	n, err := stdout.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	subshell, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		t.Fatal(err)
	}
	found, err := readAncestors(subshell)
	if err != nil || len(found) == 0 || found[0].pid != cmd.Process.Pid {
		t.Errorf("the ancestors are %+v, %v; want first the shell, %d", found, err, cmd.Process.Pid)
	}
}
