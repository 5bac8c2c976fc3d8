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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startGreetingServer answers every connection to a host's address with the host's word.
func startGreetingServer(t *testing.T, h *Host, word string) (addr string) {
	t.Helper()
	l, err := h.Listen(netip.AddrPortFrom(h.Addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, word)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
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
	near, bastion := NewHostPair(t)
	inner := bastion.AddHostBehind()
	if got := near.dialAndRead(t, startGreetingServer(t, bastion, "bastion")); got != "bastion" {
		t.Errorf("the near host reads %q", got)
	}
	secret := startGreetingServer(t, inner, "inner")
	if got := bastion.dialAndRead(t, secret); got != "inner" {
		t.Errorf("the bastion reads %q", got)
	}
	if _, err := near.Dial(secret); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("the near host reaches the inner one: %v", err)
	}
}

// holdVariable names the variable that has this test binary make hosts, say who holds them, and stay until its input ends.
const holdVariable = "LOCALPORT_NETNS_HOLDING"

func TestHostPair_NamespacesEndWithKilledTest(t *testing.T) {
	if os.Getenv(holdVariable) != "" {
		holdHosts(t)
		return
	}
	requireNetns(t)
	test := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPair_NamespacesEndWithKilledTest$")
	test.Env, test.Stderr = append(os.Environ(), holdVariable+"=1"), os.Stderr
	if _, err := test.StdinPipe(); err != nil { // which ends with this process too
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
		t.Fatalf("the test that is to be killed said %q: %v", line, err)
	}
	var holders []int
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("process %d holds no network: %v", pid, err)
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
			t.Errorf("process %d lives on and holds a network", pids[i])
		}
	}
}

func holdHosts(t *testing.T) {
	near, far := NewHostPair(t)
	inner := far.AddHostBehind()
	fmt.Println(near.pid(), far.pid(), inner.pid())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// awaitExit waits for the end of the process behind a pidfd.
func awaitExit(fd int) bool {
	deadline := time.Now().Add(10 * time.Second)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n == 1
		}
	}
}
