package process

import "golang.org/x/sys/unix"

// Frozen reports whether the leader is suspended, by SIGSTOP or a debugger.
func (c *Child) Frozen() bool {
	const stopped = 4 // SSTOP in sys/proc.h
	info, err := unix.SysctlKinfoProc("kern.proc.pid", c.Pid())
	return err == nil && info.Proc.P_stat == stopped
}
