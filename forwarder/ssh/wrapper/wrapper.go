// Package wrapper makes the ssh to a jump host ignore the masters of the user's own configuration (ControlPersist), which may hang
// long after the network is back. The outer ssh passes no options to that ssh, but looks it up in PATH: there it finds this program
// under the name ssh, which adds the options and executes the real one.
package wrapper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/forwarder/process"
)

// dirVariable holds the directory in which this program is named ssh. Its name is a wire name: a supervisor of another release may have
// started the ssh that passes it on.
const dirVariable = "LOCALPORT_WAY"

// bypassOptions make ssh neither use nor become a master.
var bypassOptions = []string{"-o", "ControlMaster=no", "-o", "ControlPath=none"}

// Environment returns env for an ssh whose child ssh processes get bypassOptions. It creates a directory in dir, which must exist
// until ssh has logged in.
func Environment(env []string, dir string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	binDir := filepath.Join(dir, "bin")
	if err := os.Mkdir(binDir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(self, filepath.Join(binDir, "ssh")); err != nil {
		return nil, err
	}
	path := binDir + string(filepath.ListSeparator) + process.Getenv(env, "PATH")
	return append(slices.Clone(env), "PATH="+path, dirVariable+"="+binDir), nil
}

// Main must be called first by every program that uses Environment. In a process that was started as ssh it executes the real ssh.
func Main() {
	binDir := os.Getenv(dirVariable)
	if binDir == "" || filepath.Base(os.Args[0]) != "ssh" {
		return
	}
	fmt.Fprintln(os.Stderr, "localport: execute ssh:", execSSH(binDir))
	os.Exit(255)
}

// execSSH replaces this process by the real ssh. One with -S is a master of this program and keeps its options.
func execSSH(binDir string) error {
	env := os.Environ()
	path, _ := strings.CutPrefix(process.Getenv(env, "PATH"), binDir+string(filepath.ListSeparator))
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	program, err := process.LookPath("ssh", append(env, "PATH="+path), dir)
	if err != nil {
		return err
	}
	argv := os.Args
	if !slices.Contains(argv, "-S") {
		argv = slices.Concat(argv[:1], bypassOptions, argv[1:])
	}
	return syscall.Exec(program, argv, env)
}
