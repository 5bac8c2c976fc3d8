package prompt

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/shellhook"
)

// Hook returns the hook of a shell, which calls this program by its absolute path. With onCd, bash's cd enters and leaves projects at once; the cd of
// other shells always does.
func Hook(shellName string, onCd bool) (string, error) {
	shell, err := shellhook.Lookup(shellName)
	if err != nil {
		return "", output.Usage(err)
	}
	exe, err := InvokedPath()
	if err != nil {
		return "", err
	}
	hook := shell.Hook(exe)
	if wrapper, ok := shell.(shellhook.CdWrapper); ok && onCd {
		hook += wrapper.OnCd()
	}
	return hook, nil
}

// InvokedPath returns the absolute path that this program was called by, without resolving links: Homebrew's and Nix' lead to a file
// that the next upgrade deletes. It falls back to the file itself.
func InvokedPath() (string, error) {
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

// printHook runs `localport hook SHELL`, which every new shell runs, without the parser of the command line. It returns false if that has to run
// the command: args are others, or an error is to be reported. SHELL may be a login shell's $0, such as "-bash".
func printHook(args []string) bool {
	if len(args) != 2 || args[0] != "hook" {
		return false
	}
	hook, err := Hook(strings.TrimPrefix(args[1], "-"), false)
	if err != nil {
		return false
	}
	signal.Ignore(syscall.SIGPIPE) // so that writing to a pipe without a reader is an error
	defer signal.Reset(syscall.SIGPIPE)
	_, err = os.Stdout.WriteString(hook)
	return err == nil
}
