package cluster

import (
	_ "embed"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

//go:embed node/cleanup.sh
var cleanupScript string

// cleaner is a child process that removes a cluster's directory and control groups when removeAll is called, and also when this process
// ends in any other way.
type cleaner struct {
	pid       int
	removeAll func() error // returns when everything is removed; may be called more than once
}

func startCleaner(dir string, groups controlGroups, env []string) (*cleaner, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", cleanupScript, "cleanup", dir}, groups...)...)
	cmd.Dir, cmd.Env = "/", env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C must not reach it
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe() // the script waits until it is closed
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &cleaner{cmd.Process.Pid, sync.OnceValue(func() error { return finishCleanup(cmd, stdin, &stderr) })}, nil
}

// finishCleanup closes the script's standard input and waits for its end.
func finishCleanup(cmd *exec.Cmd, stdin io.Closer, stderr *strings.Builder) error {
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("remove the files of a cluster: %w: %s", err, stderr)
	}
	return nil
}
