//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/process"
)

// program is a running program. When this process dies, the kernel sends it SIGTERM, so that it ends its own children: after a SIGKILL,
// autossh would leave its ssh.
type program struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func startProgram(b *testing.B, argv []string) *program {
	b.Helper()
	p := &program{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "AUTOSSH_GATETIME=0") // autossh restarts also an ssh that ends soon
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	startedCh := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when this thread ends
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		startedCh <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-startedCh; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.stop)
	return p
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// stop ends the program and all that it has started, if necessary with SIGKILL: a busy ssh may miss a SIGTERM. It may be called more
// than once.
func (p *program) stop() {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-p.done:
			return
		default:
			_ = syscall.Kill(-p.pid(), sig)
		}
		select {
		case <-p.done:
		case <-time.After(process.DefaultGracePeriod):
		}
	}
	<-p.done
}

// processName returns the name of a process, as ps shows it; empty if it has ended.
func processName(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(name))
}

// processStat returns the fields of /proc/PID/stat from the third on (see proc(5)); nil if the process has ended.
func processStat(pid int) []string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data[strings.LastIndex(string(data), ")")+1:]), " ")
	return strings.Fields(rest)
}

// processTree returns processes and all their descendants, zombies included.
func processTree(roots ...int) []int {
	children := map[int][]int{}
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		var pid, parent int
		_, _ = fmt.Sscanf(path, "/proc/%d", &pid)
		if stat := processStat(pid); len(stat) > 1 {
			_, _ = fmt.Sscan(stat[1], &parent)
			children[parent] = append(children[parent], pid)
		}
	}
	all := slices.DeleteFunc(slices.Clone(roots), func(pid int) bool { return processStat(pid) == nil })
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// cpuTime returns the CPU time of processes and of the children that they have reaped; that of the children in clock ticks of 10 ms.
func cpuTime(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		var own unix.Timespec
		const schedClock = 2 // clock_getcpuclockid(3) makes a process's clock of its pid and this
		if err := unix.ClockGettime(int32(^pid<<3|schedClock), &own); err != nil {
			continue
		}
		sum += time.Duration(own.Nano())
		if stat := processStat(pid); len(stat) > 14 {
			var user, system time.Duration
			_, _ = fmt.Sscan(stat[13]+" "+stat[14], (*int64)(&user), (*int64)(&system))
			sum += (user + system) * 10 * time.Millisecond
		}
	}
	return sum
}

// retryUntilSuccess calls try every 2 ms until it succeeds, for up to 30 s.
func retryUntilSuccess(try func() error) error {
	err := try()
	for deadline := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(deadline); err = try() {
		time.Sleep(2 * time.Millisecond)
	}
	return err
}

// echoOnce connects to a server of startEchoServers and has a byte echoed.
func echoOnce(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	return echoByte(conn)
}

// echoByte sends a byte and waits for its echo.
func echoByte(conn net.Conn) error {
	data := []byte{'x'}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(data); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, data)
	return err
}

// startEchoServers starts n servers that send back what they receive, and returns their ports.
func startEchoServers(b *testing.B, n int) (ports []int) {
	b.Helper()
	for range n {
		ports = append(ports, startServer(b, "127.0.0.1:0", func(conn net.Conn) {
			buf := make([]byte, 4<<10)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if _, err := conn.Write(buf[:n]); err != nil {
					return
				}
			}
		}).port)
	}
	return ports
}
