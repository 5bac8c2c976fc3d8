package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/tcpserver"
)

// countFiles returns how many files this process has open, and how many of them are ends of pipes.
func countFiles(t testing.TB) (all, pipes int) {
	t.Helper()
	dir := "/dev/fd"
	if runtime.GOOS == "linux" {
		dir = "/proc/self/fd"
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name, err := os.Readlink(dir + "/" + entry.Name())
		if err == nil && strings.HasPrefix(name, "pipe:") {
			pipes++
		}
	}
	return len(entries), pipes
}

// affordableConns returns how many connections, of four files each, this process may have, at most wanted.
func affordableConns(t testing.TB, wanted int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(uint64(wanted), (min(limit.Cur, 1<<20)-128)/4))
}

// openConns opens n connections and sends bytes both ways on each.
func openConns(t testing.TB, r *relayFixture, tn *scriptedTunnel, n int) []io.Closer {
	t.Helper()
	var all []io.Closer
	for range n {
		client := r.dialClient()
		server := tn.nextConn(t)
		pingPong(client, server)
		all = append(all, client, server)
	}
	return all
}

func TestRelay_IdleConnectionUsesTwoFilesAndTwoGoroutines(t *testing.T) {
	n := affordableConns(t, 2000)
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	files0, pipes0 := countFiles(t)
	goroutines0 := runtime.NumGoroutine()
	openConns(t, r, tn, n)
	files1, pipes1 := countFiles(t)
	if files1-files0 != 4*n || pipes1 > pipes0 { // two of the four are the client's and the server's own
		t.Errorf("%d connections have %d files, %d of them of pipes", n, files1-files0, pipes1-pipes0)
	}
	if added := runtime.NumGoroutine() - goroutines0; added > 2*n {
		t.Errorf("%d connections have %d goroutines", n, added)
	}
	if s := r.Stats(); s.Open != n {
		t.Errorf("got %+v", s)
	}
}

func TestRelay_ReleasesEverythingAfterManyConnections(t *testing.T) {
	const allowance = 32 // idle pipes, and files of the runtime
	n := affordableConns(t, 1000)
	r, tn := startRelay(t), openTunnel(t, "tcp")
	r.Attach(tn)
	files0, _ := countFiles(t)
	goroutines0 := runtime.NumGoroutine()
	for range 3 {
		for _, c := range openConns(t, r, tn, n) {
			c.Close()
		}
		receive(t, r.lastClientCh)
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines0 })
	if files1, _ := countFiles(t); files1 > files0+allowance {
		t.Errorf("%d files are left", files1-files0)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached.pendingConns.pruneEnded(time.Now().Add(time.Hour))
	if pending := r.attached.pendingConns; len(r.clients)+len(r.dialCancels)+len(r.waitQueue)+len(pending.open)+len(pending.ended)+pending.dialing != 0 {
		t.Error("the relay still holds clients")
	}
}

// runFewFilesRelay is runRelay in a process with a low file limit.
func runFewFilesRelay() {
	const maxFiles = 48
	limit := syscall.Rlimit{Cur: maxFiles, Max: maxFiles}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	runRelay()
}

// runRelay runs a relay in a process of its own. It reads commands: "fill" opens as many files as possible, "free" closes them, "shortage"
// prints Stats.Shortage, "switches" how often its threads have waited; it ends at the end of the input.
func runRelay() {
	ls, err := BindListeners([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		panic(err)
	}
	r := newRelay(ls, Options{ConnectTimeout: testTimeout}, fastTiming)
	r.Attach(&dialTunnel{addr: os.Args[1]})
	fmt.Println(ls.Addrs()[0])
	var opened []*os.File
	for input := bufio.NewScanner(os.Stdin); input.Scan(); fmt.Println("done") {
		switch input.Text() {
		case "fill":
			opened = openAllFiles()
		case "free":
			for _, file := range opened {
				file.Close()
			}
		case "shortage":
			fmt.Print(r.Stats().Shortage, "; ")
		case "switches":
			fmt.Print(countVoluntarySwitches(), "; ")
		}
	}
	_ = r.Close()
}

// countVoluntarySwitches returns how often the threads of this process have waited: voluntary_ctxt_switches in proc_pid_status(5).
func countVoluntarySwitches() (n int) {
	paths, _ := filepath.Glob("/proc/self/task/*/status")
	for _, path := range paths {
		data, _ := os.ReadFile(path) // fails for a thread that has ended
		for line := range strings.Lines(string(data)) {
			if count, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				value, _ := strconv.Atoi(strings.TrimSpace(count))
				n += value
			}
		}
	}
	return n
}

func openAllFiles() []*os.File {
	var opened []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			return opened
		}
		opened = append(opened, file)
	}
}

// dialTunnel is a tunnel whose Dial connects to addr.
type dialTunnel struct {
	scriptedTunnel
	addr string
}

func (d *dialTunnel) Dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", d.addr)
}
func (d *dialTunnel) Acknowledges() bool                 { return true }
func (d *dialTunnel) Refusals() <-chan forwarder.Refusal { return nil }

// startFewFilesRelay starts runFewFilesRelay. sendCommand waits for the command's output and returns it.
func startFewFilesRelay(t *testing.T, to string) (addr string, sendCommand func(string) string) {
	t.Helper()
	addr, sendCommand, _ = startRelayProcess(t, "few files", to)
	return addr, sendCommand
}

// startRelayProcess starts the test binary in a role, through another program if one is given. end ends it, as the end of the test does.
func startRelayProcess(t *testing.T, role, to string, through ...string) (addr string, sendCommand func(string) string, end func()) {
	t.Helper()
	argv := append(through, os.Args[0], to)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), testRoleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	lines := bufio.NewScanner(out)
	line := func() string {
		if !lines.Scan() {
			t.Fatal("the relay's process has ended")
		}
		return lines.Text()
	}
	addr = line()
	return addr, func(text string) string {
		if _, err := io.WriteString(in, text+"\n"); err != nil {
			t.Fatal(err)
		}
		return line()
	}, end
}

func TestRelay_ServesMoreClientsThanFilesInTurn(t *testing.T) {
	const clients = 200
	addr, _ := startFewFilesRelay(t, tcpserver.Start(t, tcpserver.Echo).String())
	var all sync.WaitGroup
	for i := range clients {
		conn, err := dialTCP(addr)
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := checkEcho(conn, fmt.Sprint("client ", i)); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

func TestRelay_RecoversFromFileLimit(t *testing.T) {
	addr, sendCommand := startFewFilesRelay(t, tcpserver.Start(t, tcpserver.Echo).String())
	sendCommand("fill")
	var conns []*net.TCPConn
	for range 8 {
		conn, err := dialTCP(addr)
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		conns = append(conns, conn)
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "held"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the shortage is the error of the file limit", func() bool {
		return strings.Contains(sendCommand("shortage"), syscall.EMFILE.Error())
	})
	sendCommand("free")
	for _, conn := range conns {
		got := make([]byte, 4)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "held" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	eventually(t, "the shortage is over", func() bool { return sendCommand("shortage") == "<nil>; done" })
}

func checkEcho(conn *net.TCPConn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err == nil && string(got) != text {
		err = errors.New("got " + string(got))
	}
	return err
}
