// Package wrapper gives options to the ssh to a jump host, to which the outer ssh passes none: a log of its own, which no banner and no
// other program writes to, and on demand those that ignore the masters of the user's own configuration (ControlPersist), which may hang
// long after the network is back. The outer ssh looks that ssh up in PATH: there it finds this program under the name ssh, which adds
// the options and executes the real one.
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

// Variables for the process that was started as ssh. Their names are wire names: a supervisor of another release may have started the
// ssh that passes them on.
const (
	dirVariable     = "LOCALPORT_WAY"          // the directory in which this program is named ssh
	logVariable     = "LOCALPORT_JUMP_LOG"     // the named pipe that takes the log
	mastersVariable = "LOCALPORT_JUMP_MASTERS" // useMasters; anything else: bypassOptions are added
)

const useMasters = "use"

// bypassOptions make ssh neither use nor become a master.
var bypassOptions = []string{"-o", "ControlMaster=no", "-o", "ControlPath=none"}

// Options are what Environment's child ssh processes get.
type Options struct {
	LogPipe         string // the path of a named pipe with a reader: takes their logs
	BypassesMasters bool   // they neither use nor become a master
}

// Environment returns env for an ssh whose child ssh processes get options. It creates a directory in dir, which must exist until ssh
// has logged in.
func Environment(env []string, dir string, options Options) ([]string, error) {
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
	env = append(slices.Clone(env), "PATH="+path, dirVariable+"="+binDir, logVariable+"="+options.LogPipe)
	if !options.BypassesMasters {
		env = append(env, mastersVariable+"="+useMasters)
	}
	return env, nil
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
	return syscall.Exec(program, slices.Concat(os.Args[:1], addedOptions(os.Args), os.Args[1:]), env)
}

// addedOptions returns the options that are added to a command line of ssh.
func addedOptions(argv []string) []string {
	var options []string
	if !slices.Contains(argv, "-S") && os.Getenv(mastersVariable) != useMasters {
		options = slices.Clone(bypassOptions)
	}
	logPipe := os.Getenv(logVariable)
	info, err := os.Stat(logPipe)
	if err == nil && info.Mode().Type() == os.ModeNamedPipe && !slices.Contains(argv, "-S") && !slices.Contains(argv, "-E") {
		options = append(options, "-E", logPipe, "-o", "LogLevel=DEBUG1") // reports whose login it is about
	}
	return options
}
