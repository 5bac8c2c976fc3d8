// Package wrapper has the ssh to a jump host go around the masters that the user's own configuration keeps (ControlPersist): one of
// those may hang, long after the network is back. That ssh is started by another, which hands no option on to it, but finds it in
// the PATH: there it finds this program first, which adds the options and becomes ssh.
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

// variable names the folder in which this program is called ssh.
const variable = "LOCALPORT_WAY"

// around are the options that keep an ssh away from every master.
var around = []string{"-o", "ControlMaster=no", "-o", "ControlPath=none"}

// Around is an environment in which whatever ssh starts as ssh goes its own way. What it needs in dir is to stay until ssh has
// logged in.
func Around(env []string, dir string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(dir, "way")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(self, filepath.Join(folder, "ssh")); err != nil {
		return nil, err
	}
	path := folder + string(filepath.ListSeparator) + process.Getenv(env, "PATH")
	return append(slices.Clone(env), "PATH="+path, variable+"="+folder), nil
}

// Main is to be called first by every program that starts an ssh in such an environment. If the process was started as ssh, it
// becomes that.
func Main() {
	folder := os.Getenv(variable)
	if folder == "" || filepath.Base(os.Args[0]) != "ssh" {
		return
	}
	fmt.Fprintln(os.Stderr, "localport: ssh:", become(folder))
	os.Exit(255)
}

// become runs the real ssh in this process's place. An ssh whose socket is given by -S has one of ours.
func become(folder string) error {
	env := os.Environ()
	path, _ := strings.CutPrefix(process.Getenv(env, "PATH"), folder+string(filepath.ListSeparator))
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
		argv = slices.Concat(argv[:1], around, argv[1:])
	}
	return syscall.Exec(program, argv, env)
}
