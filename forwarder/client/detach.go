package client

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// KeeperArg is the only argument of a keeper process, SuperviseArg the first of a supervisor process.
const (
	KeeperArg    = "keep"
	SuperviseArg = "supervise"
)

// Detach starts this program again with the given arguments, and the same output and readiness pipe. The caller must exit then: the
// new process is no child of the process that started the caller.
func Detach(args []string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{os.NewFile(readyFD, "readiness pipe")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	return cmd.Process.Release()
}

// CloseInherited closes every descriptor above 2 that was inherited, which are those without the close-on-exec flag: what the shell or a
// test had open must not stay open for as long as a supervisor runs. The readiness pipe and those in keep stay open, and get the flag.
func CloseInherited(keep ...int) {
	keep = append(keep, readyFD)
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err != nil || fd <= 2 {
			continue
		}
		if slices.Contains(keep, fd) {
			unix.CloseOnExec(fd)
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}
