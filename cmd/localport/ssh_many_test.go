package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// raiseFileLimit raises the limit of open files for this process and those that it starts to at least enough. Go raises it only for
// itself: other programs would start with the original soft limit, usually 1,024.
func raiseFileLimit(t testing.TB, minimum uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < minimum {
		t.Fatalf("this needs %d open files, and ulimit -Hn is %d: raise it", minimum, limit.Max)
	}
	limit.Cur = min(limit.Max, 1<<16)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// TestSSH_AThousandConnectionsReleaseTheirResources opens a thousand connections through one forward and closes them all, in three rounds.
// After the third round no more resources are in use than after the first.
func TestSSH_AThousandConnectionsReleaseTheirResources(t *testing.T) {
	t.Parallel()
	const n = 1000
	raiseFileLimit(t, 4096) // both ends of the connections are this process's
	w := newTestEnv(t)
	w.env = append(w.env, resourcesVariable+"="+t.TempDir())
	host, port := sshd.Start(t), ports.FreePort(t)
	root := w.allowedProject(sshConfig("web", port, host, serve(t, "127.0.0.1:0").port))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	children := findChildren(t, w.supervisor(root).PID)
	if len(children) != 1 {
		t.Fatalf("the supervisor's children are %v, want one ssh", children)
	}
	var supervisor, ssh [3]resources
	for round := range supervisor {
		w.openSimultaneously(root, n, fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprint("round ", round))
		eventually(t, "no connection is open", func() bool { return w.service(root, "web").Connections.Open == 0 })
		supervisor[round], ssh[round] = w.reportedResources(w.supervisor(root).PID), readResources(t, children[0].PID)
		t.Logf("after round %d: supervisor %v; ssh %v", round, supervisor[round], ssh[round])
	}
	if svc := w.service(root, "web"); svc.Connections.Total != 3*n || svc.Restarts != 0 {
		t.Errorf("%d connections, %d restarts, %q", svc.Connections.Total, svc.Restarts, svc.LastError)
	}
	// A request of this test may be open, and the runtime may start threads. It keeps a record of about 450 bytes for each goroutine of the
	// largest number that has existed at once, which differs by some hundreds between rounds: of ten rounds, with the race detector or
	// without, the heap of the last was 250 to 300 kB larger than that of the first, and the same as that of the sixth. Two rounds that
	// leave 1/4 kB for each connection exceed the margin.
	supervisor[2].checkWithin(t, "supervisor", supervisor[0], resources{files: 4, threads: 8, goroutines: 8, heap: 512, memory: 4 << 10})
	// ssh keeps its buffers at the largest size that it has needed, and doubles them when they grow.
	ssh[2].checkWithin(t, "ssh", ssh[0], resources{memory: 12 << 10})
}

// openSimultaneously opens n connections, checks that all are open at the same time, and closes them. Each exchanges a line before all are open,
// and another one after.
func (w *testEnv) openSimultaneously(root string, n int, addr, label string) {
	w.t.Helper()
	var connected, clients sync.WaitGroup
	allConnectedCh := make(chan struct{})
	connected.Add(n)
	for i := range n {
		clients.Go(func() {
			onConnected := sync.OnceFunc(connected.Done)
			defer onConnected()
			if err := exchangeTwoLines(addr, fmt.Sprintf("%s, client %d", label, i), func() { onConnected(); <-allConnectedCh }); err != nil {
				w.t.Errorf("%s, client %d: %v", label, i, err)
			}
		})
	}
	connected.Wait()
	if open := w.service(root, "web").Connections.Open; open != n {
		w.t.Errorf("%s: %d connections are open, not %d", label, open, n)
	}
	close(allConnectedCh)
	clients.Wait()
}

// exchangeTwoLines connects to a server started by serve, exchanges a line, calls onFirstAnswer, exchanges a longer one, and checks that the server
// closes its half after we have closed ours.
func exchangeTwoLines(addr, text string, onFirstAnswer func()) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	if err := exchangeGreeting(conn, answers, text); err != nil {
		return err
	}
	onFirstAnswer()
	if err := exchangeGreeting(conn, answers, strings.Repeat(text+" again, ", 200)); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
		return fmt.Errorf("after the half-close came %q, %w", rest, err)
	}
	return nil
}

// exchangeGreeting sends a line and checks the greeting that answers it.
func exchangeGreeting(conn io.Writer, answers *bufio.Reader, text string) error {
	if _, err := fmt.Fprintln(conn, text); err != nil {
		return err
	}
	answer, err := answers.ReadString('\n')
	if want := "hello " + text + "\n"; err != nil || answer != want {
		return fmt.Errorf("got %q for %q, %w", answer, want, err)
	}
	return nil
}
