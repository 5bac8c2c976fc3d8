package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// marker is set for every process that the driver starts; .ci/leftovers looks for variables of this form.
const marker = "LOCALPORT_TEST_CHAOS"

// Isolate runs argv, a command line of this very program, as a child in PID, mount and network namespaces of its own: no
// port, mount or process of the driver is seen outside, and whatever is left ends with it, however it ends. It needs root.
// It returns the child's exit code.
func Isolate(argv []string) (int, error) {
	if os.Getuid() != 0 {
		return 1, errors.New("namespaces and mounts of its own need root")
	}
	runtime.LockOSThread() // the parent-death signal is tied to the thread that forks
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", argv...)
	cmd.Env = append(os.Environ(), marker+"=init")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	passSignals(cmd.Process.Pid)
	return exitCode(cmd.Wait())
}

// passSignals gives the signals that ask for an end to a child, which ends in an orderly way.
func passSignals(pid int) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for got := range signals {
			_ = syscall.Kill(pid, got.(syscall.Signal))
		}
	}()
}

func exitCode(err error) (int, error) {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// IsInit reports whether this process is the first one in the namespaces of Isolate.
func IsInit() bool { return os.Getenv(marker) == "init" }

// Init is the first process in the namespaces: it mounts what the driver needs, starts it, and reaps orphans until it has
// ended. Its end ends every process in the namespaces.
func Init(dir string, argv []string) (int, error) {
	if err := mountAll(dir); err != nil {
		return 1, err
	}
	if err := raiseLoopback(); err != nil {
		return 1, fmt.Errorf("raise the loopback interface: %w", err)
	}
	if err := os.Setenv(marker, "driver"); err != nil {
		return 1, err
	}
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{"chaos"}, argv...), &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		return 1, fmt.Errorf("start the driver: %w", err)
	}
	passSignals(pid)
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait for the driver: %w", err)
		case ended == pid && status.Exited():
			return status.ExitStatus(), nil
		case ended == pid:
			return 1, fmt.Errorf("the driver ended by %v", status.Signal())
		}
	}
}

// The sizes are small so that a disk is filled quickly; what is not tested on a full disk has a disk of its own.
const (
	homeSize    = "size=24m,nr_inodes=4000"
	runtimeSize = "size=8m"
)

// mountAll makes the mounts of the world in dir: a small disk for HOME, one for the runtime directory in it.
func mountAll(dir string) error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	home := filepath.Join(dir, "h")
	for _, m := range []struct{ path, options string }{{home, homeSize}, {filepath.Join(home, "runtime"), runtimeSize}} {
		if err := os.MkdirAll(m.path, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", m.path, "tmpfs", 0, m.options+",mode=0700"); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return nil
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// coverReadOnly mounts a directory read-only over itself, and what is mounted below it once more over that. A mount itself
// cannot be made read-only while a file there is open for writing; what is open stays so in the mount below.
func coverReadOnly(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s over itself: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(fmt.Errorf("mount %s read-only: %w", dir, err), unix.Unmount(dir, unix.MNT_DETACH))
	}
	return nil
}

// makeWritable undoes what coverReadOnly did. The mount stays: a process may have a directory open in it.
func makeWritable(dir string) error {
	return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, "")
}
