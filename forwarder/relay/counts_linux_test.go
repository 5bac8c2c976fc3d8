package relay

import (
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/testdata/tcpserver"
)

// These tests limit counts, which do not depend on how fast or busy a machine is. The limits are what was measured, and a little more.

// tracedCallPattern matches a line of strace's output that shows the start of a system call.
var tracedCallPattern = regexp.MustCompile(`^\d+ +(\w+)\(`)

// schedulingCalls are system calls whose number depends on which thread runs when.
var schedulingCalls = regexp.MustCompile(`^(futex|epoll_pwait2?|nanosleep|sched_\w+|tgkill|getpid|rt_sig\w+|madvise|restart_syscall)$`)

// countCalls returns how often a relay's process calls the system for n connections with a byte each way, without what only scheduling causes.
func countCalls(t *testing.T, n int) map[string]int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	addr, _, end := startRelayProcess(t, "relay", tcpserver.Start(t, tcpserver.Echo).String(), "strace", "-f", "-qq", "-s", "0", "-o", path)
	for range n {
		conn, err := dialTCP(addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkEcho(conn, "x"); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	end()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.Lines(string(data)) {
		if match := tracedCallPattern.FindStringSubmatch(line); match != nil && !schedulingCalls.MatchString(match[1]) {
			calls[match[1]]++
		}
	}
	return calls
}

func TestRelay_LimitsSystemCallsOfConnection(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	const conns = 50
	calls := countCalls(t, conns)
	for name, n := range countCalls(t, 0) {
		calls[name] -= n
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		total += calls[name]
		t.Logf("%s: %.2f", name, float64(calls[name])/conns)
	}
	// The accepted socket gets TCP_NODELAY from package net. The dialed one gets it and the four options of keepalives.
	if n := calls["setsockopt"]; n > conns*6+5 {
		t.Errorf("%d calls of setsockopt for %d connections, limit 6 each", n, conns)
	}
	if total > conns*38 {
		t.Errorf("%d system calls for %d connections, limit 38 each", total, conns)
	}
}

// TestRelay_RoundTripWaitsTwice limits how often a relay's threads wait in a round trip: once for the client and once for the server. Calls that tell
// Go's scheduler that they may block would make its monitor thread wait twice more.
func TestRelay_RoundTripWaitsTwice(t *testing.T) {
	const trips, limit = 3000, 3.5 // 2.0 measured alone, 2.5 beside four busy loops, 4 with those calls
	addr, sendCommand, _ := startRelayProcess(t, "relay", tcpserver.Start(t, tcpserver.Echo).String())
	conn, err := dialTCP(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	switches := func() int {
		answer, _, _ := strings.Cut(sendCommand("switches"), ";")
		n, err := strconv.Atoi(answer)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	trip := func() {
		if _, err := conn.Write([]byte{'x'}); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	trip()
	before := switches()
	for range trips {
		trip()
	}
	each := float64(switches()-before) / trips
	t.Logf("%.2f waits each", each)
	if each > limit {
		t.Errorf("threads wait %.2f times in a round trip, limit %.1f", each, limit)
	}
}

// keepaliveOptionsOf returns the options of a connection that package net sets.
func keepaliveOptionsOf(t *testing.T, conn net.Conn) (values [5]int) {
	t.Helper()
	rawConn, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = rawConn.Control(func(fd uintptr) {
		for i, option := range [5]struct{ level, name int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
			{unix.IPPROTO_TCP, unix.TCP_NODELAY},
		} {
			values[i], err = unix.GetsockoptInt(int(fd), option.level, option.name)
			if err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// acceptedOptions returns the options of a connection that a listener has accepted.
func acceptedOptions(t *testing.T, l net.Listener) [5]int {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return keepaliveOptionsOf(t, conn)
}

func TestListeners_SetKeepalivesLikePackageNet(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 on this machine")
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	want := acceptedOptions(t, plain)
	bound, err := BindListeners(bothLoopbacks(0))
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	files, err := bound.Files()
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := InheritListeners(files)
	for _, file := range files {
		file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	for _, l := range append(slices.Clone(bound.tcp), inherited.tcp...) {
		if got := acceptedOptions(t, l); got != want || got[0] != 1 || got[4] != 1 {
			t.Errorf("%s: got the options %v, package net sets %v", l.Addr(), got, want)
		}
	}
}
