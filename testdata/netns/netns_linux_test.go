package netns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv(threadVariable) != "" {
		runOnOwnThread(func() {
			if unix.Gettid() == unix.Getpid() {
				os.Exit(1)
			}
		})
		return
	}
	goleak.VerifyTestMain(m)
}

// startGreetingServer starts a server on a host that sends a text on every connection and closes it.
func startGreetingServer(t *testing.T, h *Host, text string) (addr string) {
	t.Helper()
	l, err := h.Listen(netip.AddrPortFrom(h.Addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	endedCh := make(chan struct{})
	go func() {
		defer close(endedCh)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, text)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-endedCh })
	return l.Addr().String()
}

func (h *Host) dialAndRead(t *testing.T, addr string) string {
	t.Helper()
	conn, err := h.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestHostPair_HostsReachOnlyEachOther(t *testing.T) {
	local, bastion := NewHostPair(t)
	inner := bastion.AddHostBehind()
	if got := local.dialAndRead(t, startGreetingServer(t, bastion, "bastion")); got != "bastion" {
		t.Errorf("the local host reads %q", got)
	}
	secret := startGreetingServer(t, inner, "inner")
	if got := bastion.dialAndRead(t, secret); got != "inner" {
		t.Errorf("the bastion reads %q", got)
	}
	if _, err := local.Dial(secret); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("the local host dials the inner one: got %v, want ENETUNREACH", err)
	}
}

// threadVariable makes TestMain run a function by runOnOwnThread, and exit with 1 if that was on the main thread.
const threadVariable = "LOCALPORT_NETNS_THREAD"

// A function is not run on the main thread, whose namespaces are those in /proc/PID/ns. At the start of a program a goroutine continues there as soon
// as the main one waits.
func TestRunOnOwnThread_NeverUsesTheMainThread(t *testing.T) {
	for range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), threadVariable+"=1", "GORACE=atexit_sleep_ms=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// holdVariable makes TestHostPair_NamespacesEndWithKilledTest call holdHosts, in the process that the same test starts and kills.
const holdVariable = "LOCALPORT_NETNS_HOLDING"

func TestHostPair_NamespacesEndWithKilledTest(t *testing.T) {
	if os.Getenv(holdVariable) != "" {
		holdHosts(t)
		return
	}
	requireNetns(t)
	test := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	test.Env, test.Stderr = append(os.Environ(), holdVariable+"=1"), os.Stderr
	if _, err := test.StdinPipe(); err != nil { // it is closed when this process ends, and then holdHosts returns
		t.Fatal(err)
	}
	out, err := test.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := test.Start(); err != nil {
		t.Fatal(err)
	}
	var pids [3]int
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scan := fmt.Sscan(line, &pids[0], &pids[1], &pids[2]); err != nil || scan != nil {
		t.Fatalf("the test that is to be killed printed %q: %v", line, err)
	}
	var holders []int
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("process %d, which holds a namespace, does not run: %v", pid, err)
		}
		defer unix.Close(fd)
		holders = append(holders, fd)
	}
	if err := test.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = test.Wait()
	for i, fd := range holders {
		if !awaitExit(fd) {
			t.Errorf("process %d still runs and holds a namespace", pids[i])
		}
	}
}

// holdHosts makes three hosts, prints the processes that hold them, and returns when standard input ends.
func holdHosts(t *testing.T) {
	local, remote := NewHostPair(t)
	inner := remote.AddHostBehind()
	fmt.Println(local.pid(), remote.pid(), inner.pid())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// awaitExit reports whether the process of a pidfd ends within 10 s.
func awaitExit(fd int) bool {
	deadline := time.Now().Add(10 * time.Second)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n == 1
		}
	}
}
