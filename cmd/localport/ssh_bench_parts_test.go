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

// program is a running program. It is asked to end when this process dies, however it dies, and ends what it has started: to
// autossh a SIGKILL would leave its ssh.
type program struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func startProgram(b *testing.B, argv []string) *program {
	b.Helper()
	p := &program{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "AUTOSSH_GATETIME=0") // autossh: an ssh that ends soon is started again too
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // whose end would be taken for that of this process
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.stop)
	return p
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// stop ends the program and all that it has started: an ssh that is busy may miss the polite word. It may be called more than
// once.
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

// processName a process, as ps shows it; empty if it has ended.
func processName(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(name))
}

// processStat are the fields of /proc/PID/stat from the third on: proc(5) counts from one. It is nil for a process that has ended.
func processStat(pid int) []string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data[strings.LastIndex(string(data), ")")+1:]), " ")
	return strings.Fields(rest)
}

// processTree are processes and all that they have started. One that has ended belongs to it until its end was taken note of.
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

// cpuTime is the CPU time that processes have taken, and those that they started and that have ended: of these to the clock
// tick, which is 10 ms.
func cpuTime(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		var own unix.Timespec
		const schedClock = 2 // clock_getcpuclockid(3): how a process's clock is named
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

// retryUntilSuccess tries until it is done, as often as it costs next to nothing, and no longer than half a minute.
func retryUntilSuccess(try func() error) error {
	err := try()
	for deadline := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(deadline); err = try() {
		time.Sleep(2 * time.Millisecond)
	}
	return err
}

// echoOnce is a connection on which one byte goes and comes back.
func echoOnce(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	return echoByte(conn)
}

// echoByte sends a byte and waits until it is back.
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

// startEchoServers are the ports of n servers that send back what they are sent.
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
