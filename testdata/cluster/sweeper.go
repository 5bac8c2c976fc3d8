package cluster

import (
	"context"
	_ "embed"
	"io"
	"os"
	"os/exec"
	"syscall"
)

//go:embed node/sweep.sh
var sweepScript string

// sweeper removes a cluster's directory and control groups when it is told to, and also when our process is killed and
// so can tell nobody.
type sweeper struct {
	cmd  *exec.Cmd
	tell io.Closer
}

func (c *Cluster) startSweeper(context.Context) error {
	cmd := exec.Command("/bin/sh", append([]string{"-c", sweepScript, "sweep", c.dir}, c.groups...)...)
	cmd.Dir, cmd.Env, cmd.Stderr = "/", c.environment(), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	tell, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.sweeper = &sweeper{cmd, tell}
	return c.groups.create()
}

// sweep returns when all is removed.
func (s *sweeper) sweep() {
	s.tell.Close()
	_ = s.cmd.Wait() // the script says itself what it could not remove
}
