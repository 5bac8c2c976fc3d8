package project

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// specialNames lists, for each shell, the names of its own variables. zsh includes those of modules that it loads by itself.
var specialNames = map[string][]string{
	"bash": {"--norc", "-c", `compgen -v; echo BASH_COMPAT BASH_XTRACEFD BASH_REMATCH PIPESTATUS COPROC`},
	"zsh":  {"-fic", `zmodload zsh/parameter zsh/terminfo zsh/termcap zsh/datetime zsh/system zsh/watch zsh/sched zsh/zleparameter; print -l ${(k)parameters} TMOUT`},
	"fish": {"--no-config", "-c", "set -n; echo umask status_generation"},
}

// setAndPrint sets the variable whose name is the last argument, as the hook does, and prints what a program sees.
var setAndPrint = map[string][]string{
	"bash": {"--norc", "-c", `export "$1=7" && /usr/bin/printenv "$1"`, "bash"},
	"zsh":  {"-fic", `export "$1=7" && /usr/bin/printenv "$1"`, "zsh"},
	"fish": {"--no-config", "-c", `set -gx $argv[1] 7 && /usr/bin/printenv $argv[1]`},
}

// [env] accepts only names that every shell can set to the value and pass on to programs, without a message.
func TestReservedNames_CoverTheShellsOwnVariables(t *testing.T) {
	name := regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	for shell, list := range specialNames {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			out, err := runShell(shell, list...)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			names := strings.Fields(out)
			slices.Sort(names)
			checked := 0
			for _, n := range slices.Compact(names) {
				if n == "TERM" || !name.MatchString(n) || describeReservedName(n) != "" { // zsh knows no terminal "7"
					continue
				}
				checked++
				if out, err := runShell(shell, append(slices.Clone(setAndPrint[shell]), n)...); err != nil || out != "7\n" {
					t.Errorf("%s in %s: %q, %v", n, shell, out, err)
				}
			}
			if checked == 0 {
				t.Error("no name was checked")
			}
		})
	}
}

func runShell(shell string, args ...string) (string, error) {
	cmd := exec.Command(shell, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LANG=C.UTF-8", "TERM=dumb"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
