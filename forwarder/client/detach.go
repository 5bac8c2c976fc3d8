package client

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// KeeperArg is the argument that makes this program a keeper; a supervisor has SuperviseArg as its first.
const (
	KeeperArg    = "keep"
	SuperviseArg = "supervise"
)

// Detach starts this program again with the given arguments, and the same output and readiness pipe, as a process
// whose parent ends at once: the caller returns and exits. Whoever started the caller gets no stray child.
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

// CloseInherited closes every descriptor above the standard three that was open when this program was started, told by
// its missing close-on-exec flag: whatever the shell or a test held open must not stay open for as long as a supervisor
// lives. The readiness pipe and those that are to be kept are only kept from children.
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
