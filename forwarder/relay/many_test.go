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
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// files are this process's open ones, and how many of them are ends of pipes.
func files(t testing.TB) (all, pipes int) {
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

// affordable is how many connections, of four files each, this process may have.
func affordable(t testing.TB, wanted int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(uint64(wanted), (min(limit.Cur, 1<<20)-128)/4))
}

// crowd opens connections on which bytes have gone both ways.
func crowd(t testing.TB, r *fixture, tn *tunnel, n int) []io.Closer {
	t.Helper()
	var all []io.Closer
	for range n {
		client := r.dial()
		server := tn.next(t)
		echo(client, server)
		all = append(all, client, server)
	}
	return all
}

func TestAnIdleConnectionHoldsItsTwoSocketsAndNothingElse(t *testing.T) {
	n := affordable(t, 2000)
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	files0, pipes0 := files(t)
	goroutines0 := runtime.NumGoroutine()
	crowd(t, r, tn, n)
	files1, pipes1 := files(t)
	if files1-files0 != 4*n || pipes1 > pipes0 { // two of the four are the client's and the server's own
		t.Errorf("%d connections have %d files, %d of them of pipes", n, files1-files0, pipes1-pipes0)
	}
	if grown := runtime.NumGoroutine() - goroutines0; grown > 2*n {
		t.Errorf("%d connections have %d goroutines", n, grown)
	}
	if s := r.Stats(); s.Open != n {
		t.Errorf("got %+v", s)
	}
}

func TestNothingIsLeftOfWavesOfConnections(t *testing.T) {
	const spare = 32 // idle pipes, and what the system keeps
	n := affordable(t, 1000)
	r, tn := begin(t), openTunnel(t, "tcp")
	r.Attach(tn)
	files0, _ := files(t)
	goroutines0 := runtime.NumGoroutine()
	for range 3 {
		for _, c := range crowd(t, r, tn, n) {
			c.Close()
		}
		signal(t, r.quiets)
	}
	eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines0 })
	if files1, _ := files(t); files1 > files0+spare {
		t.Errorf("%d files are left", files1-files0)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link.flights.prune(time.Now().Add(time.Hour))
	if f := r.link.flights; len(r.clients)+len(r.dialling)+len(r.queue)+len(f.open)+len(f.ended)+f.dialled != 0 {
		t.Error("clients are remembered")
	}
}

// playCrowded is a relay in a process that may have few files. It obeys its input: "fill" takes every file there is,
// "free" gives them back, "room" asks why there is none for clients, and the end of the input ends it.
func playCrowded() {
	const few = 48
	limit := syscall.Rlimit{Cur: few, Max: few}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	ls, err := Bind([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		panic(err)
	}
	r := start(ls, Options{ConnectTimeout: patience}, brisk)
	r.Attach(&dialler{to: os.Args[1]})
	fmt.Println(ls.Addrs()[0])
	var taken []*os.File
	for input := bufio.NewScanner(os.Stdin); input.Scan(); fmt.Println("done") {
		switch input.Text() {
		case "fill":
			taken = fill()
		case "free":
			for _, file := range taken {
				file.Close()
			}
		case "room":
			fmt.Print(r.Stats().NoRoom, "; ")
		}
	}
	_ = r.Close()
}

func fill() []*os.File {
	var taken []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			return taken
		}
		taken = append(taken, file)
	}
}

// dialler is a tunnel that needs nothing but a dial.
type dialler struct {
	tunnel
	to string
}

func (d *dialler) Dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", d.to)
}
func (d *dialler) Acknowledges() bool                 { return true }
func (d *dialler) Refusals() <-chan forwarder.Refusal { return nil }

// crowded starts the program; order tells it something, waits until it is done and returns what it said.
func crowded(t *testing.T, to string) (addr string, order func(string) string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], to)
	cmd.Env = append(os.Environ(), role+"=crowded")
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
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
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
	}
}

func echoServer(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

func TestMoreClientsThanFilesAreServedInTurn(t *testing.T) {
	const clients = 200
	addr, _ := crowded(t, echoServer(t))
	var all sync.WaitGroup
	for i := range clients {
		conn, err := dialTCP(addr)
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := ask(conn, fmt.Sprint("client ", i)); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

func TestAListenerThatHitsTheFileLimitRecovers(t *testing.T) {
	addr, order := crowded(t, echoServer(t))
	order("fill")
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
	eventually(t, "it says that it has no files", func() bool {
		return strings.Contains(order("room"), syscall.EMFILE.Error())
	})
	order("free")
	for _, conn := range conns {
		got := make([]byte, 4)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "held" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	eventually(t, "it says that there is room", func() bool { return order("room") == "<nil>; done" })
}

func ask(conn *net.TCPConn, text string) error {
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
