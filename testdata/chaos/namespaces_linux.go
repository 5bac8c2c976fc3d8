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

// markerVariable is in the environment of every process that the driver starts; .ci/leftovers looks for names of this form.
const markerVariable = "LOCALPORT_TEST_CHAOS"

// RunIsolated runs this program with the arguments argv (argv[0] is not among them) in new PID, mount and network namespaces, and
// returns its exit code. Its ports, mounts and processes are not visible outside. When it ends, however it ends, the kernel
// ends every process in the namespaces. It needs root.
func RunIsolated(argv []string) (int, error) {
	if os.Getuid() != 0 {
		return 1, errors.New("only root can make namespaces and mounts")
	}
	runtime.LockOSThread() // the parent-death signal is tied to the thread that forks
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", argv...)
	cmd.Env = append(os.Environ(), markerVariable+"=init")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	relaySignals(cmd.Process.Pid)
	return exitCode(cmd.Wait())
}

// relaySignals sends every SIGINT and SIGTERM of this process to a child, which then ends in an orderly way.
func relaySignals(pid int) {
	signalCh := make(chan os.Signal, 4)
	signal.Notify(signalCh, os.Interrupt, syscall.SIGTERM)
	go func() {
		for received := range signalCh {
			_ = syscall.Kill(pid, received.(syscall.Signal))
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

// IsInit reports whether this process is the first process in the namespaces that RunIsolated made.
func IsInit() bool { return os.Getenv(markerVariable) == "init" }

// RunInit is what the first process in the namespaces runs: it mounts the disks of dir, starts the driver with the arguments argv,
// reaps orphans until the driver has ended, and returns the driver's exit code.
func RunInit(dir string, argv []string) (int, error) {
	if err := mountAll(dir); err != nil {
		return 1, err
	}
	if err := bringUpLoopback(); err != nil {
		return 1, fmt.Errorf("bring up the loopback interface: %w", err)
	}
	if err := os.Setenv(markerVariable, "driver"); err != nil {
		return 1, err
	}
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{"chaos"}, argv...), &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		return 1, fmt.Errorf("start the driver: %w", err)
	}
	relaySignals(pid)
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

// The disks are small so that one is filled quickly. The runtime directory has its own, which is never filled.
const (
	homeSize    = "size=24m,nr_inodes=4000"
	runtimeSize = "size=8m"
)

// mountAll makes this namespace's mounts private and mounts a new /proc and, in dir, a disk for HOME and one for the runtime directory
// in HOME.
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

func bringUpLoopback() error {
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

// changeNetwork gives the loopback interface another address beside its first one, which the supervisors notice as a change of the network.
func (w *world) changeNetwork() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	number := w.networkChanges.Add(1)
	if err := request.SetInet4Addr([]byte{127, 1, byte(number >> 8), byte(number)}); err != nil {
		return err
	}
	return os.NewSyscallError("SIOCSIFADDR", unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request))
}

// mountReadOnly mounts a directory read-only over itself, with the mounts below it, which stay writable. The original mount cannot be
// made read-only while a file there is open for writing; such a file stays writable in the mount that is covered.
func mountReadOnly(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s over itself: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(fmt.Errorf("mount %s read-only: %w", dir, err), unix.Unmount(dir, unix.MNT_DETACH))
	}
	return nil
}

// makeWritable makes the mount of mountReadOnly writable. It does not unmount it: a process may have a directory open there.
func makeWritable(dir string) error {
	return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, "")
}
