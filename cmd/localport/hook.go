package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/shellhook"
)

type hookCmd struct {
	Shell string `arg:"" help:"bash, zsh, fish, tcsh, elvish or nu."`
	OnCd  bool   `help:"In bash, have cd, pushd and popd enter and leave projects at once, as in \"cd shop && make\". zsh and fish always do."`
}

// Help is the text below the usage.
func (hookCmd) Help() string {
	return `The hook starts a project's forwards when you enter its directory, and sets its variables.

  localport hook fish | source

Exit codes: 0 printed; 1 not printed; 2 unknown shell.`
}

// Run prints the hook, which calls this program by its absolute path.
func (c hookCmd) Run(a *app) error {
	shell, err := shellhook.Lookup(c.Shell)
	if err != nil {
		return output.Usage(err)
	}
	exe, err := invokedPath()
	if err != nil {
		return err
	}
	hook := shell.Hook(exe)
	if wrapper, ok := shell.(shellhook.CdWrapper); ok && c.OnCd {
		hook += wrapper.OnCd()
	}
	_, err = fmt.Fprint(a.out.Data(), hook)
	return err
}

// invokedPath returns the absolute path that this program was called by, without resolving links: Homebrew's and Nix' lead to a file
// that the next upgrade deletes. It falls back to the file itself.
func invokedPath() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil || !isSameFile(path, exe) {
		return exe, nil
	}
	return path, nil
}

func isSameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// loginShellName returns args with a login shell's $0, such as "-bash", replaced by the name of the shell: it is not a flag.
func loginShellName(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		name := strings.TrimPrefix(arg, "-")
		if _, err := shellhook.Lookup(name); err == nil {
			args[i] = name
		}
	}
	return args
}
