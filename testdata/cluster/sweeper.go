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

//go:embed node/sweep.sh
var sweepScript string

// sweeper removes a cluster's directory and control groups when it is told to, and also when our process is killed and
// so can tell nobody.
type sweeper struct {
	pid   int
	sweep func() error // returns when all is removed; may be called more than once
}

func startSweeper(dir string, groups groups, env []string) (*sweeper, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", sweepScript, "sweep", dir}, groups...)...)
	cmd.Dir, cmd.Env = "/", env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	var said strings.Builder
	cmd.Stderr = &said
	tell, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &sweeper{cmd.Process.Pid, sync.OnceValue(func() error { return swept(cmd, tell, &said) })}, nil
}

func swept(cmd *exec.Cmd, tell io.Closer, said *strings.Builder) error {
	tell.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("sweep up behind a cluster: %w: %s", err, said)
	}
	return nil
}
