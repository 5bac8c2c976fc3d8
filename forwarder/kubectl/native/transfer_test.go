package native

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/testdata/cluster"
)

// startRelay opens a tunnel and starts a relay in front of it.
func startRelay(t testing.TB, kubeconfig string, spec Spec) (addr string, tunnel *tunnel) {
	t.Helper()
	ls, err := relay.BindListeners([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	r := relay.New(ls, relay.Options{})
	t.Cleanup(func() { _ = r.Close() })
	tunnel = openTunnel(t, kubeconfig, spec)
	r.Attach(tunnel)
	return ls.Addrs()[0].String(), tunnel
}

func dialRelay(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(4 * time.Minute))
	return conn.(*net.TCPConn)
}

func TestTunnel_DeliversBytesUnchanged(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	web, _ := startRelay(t, c.Kubeconfig(), specFor("service/web:80", ns))
	greet, tunnel := startRelay(t, c.Kubeconfig(), specFor("service/web:7000", ns))
	echo, _ := startRelay(t, c.Kubeconfig(), specFor("service/web:7001", ns))

	t.Run("idle for minutes", func(t *testing.T) {
		t.Parallel()
		conn := dialRelay(t, greet)
		reader := bufio.NewReader(conn)
		if _, err := reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		<-time.After(130 * time.Second) // longer than common idle timeouts
		_, _ = io.WriteString(conn, "still there\n")
		if line, err := reader.ReadString('\n'); line != "still there\n" {
			t.Errorf("got %q, %v", line, err)
		}
	})
	t.Run("a gigabyte each way", func(t *testing.T) {
		t.Parallel()
		const size = 1 << 30
		client := http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(fmt.Sprintf("http://%s/bytes?n=%d", web, size))
		if err != nil {
			t.Fatal(err)
		}
		down, want := sha256.New(), sha256.New()
		if n, err := io.Copy(down, resp.Body); n != size || err != nil {
			t.Fatalf("%d bytes down, %v", n, err)
		}
		resp.Body.Close()
		_, _ = io.CopyN(want, rand.NewChaCha8([32]byte{}), size)
		if string(down.Sum(nil)) != string(want.Sum(nil)) {
			t.Error("other bytes came than were sent")
		}
		resp, err = client.Post("http://"+web+"/sum", "", io.LimitReader(rand.NewChaCha8([32]byte{}), size))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if sum, err := io.ReadAll(resp.Body); strings.TrimSpace(string(sum)) != hex.EncodeToString(want.Sum(nil)) {
			t.Errorf("other bytes arrived than were sent: %q, %v", sum, err)
		}
	})
	t.Run("half-closed", func(t *testing.T) {
		t.Parallel()
		for range 20 {
			conn := dialRelay(t, echo)
			data := make([]byte, 100_000)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
			go func() {
				_, _ = conn.Write(data)
				_ = conn.CloseWrite()
			}()
			if got, err := io.ReadAll(conn); err != nil || string(got) != string(data) {
				t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
			}
		}
	})
	t.Run("a slow reader delays no other client", func(t *testing.T) {
		t.Parallel()
		const size = 64 << 20
		slow := dialRelay(t, web)
		fmt.Fprintf(slow, "GET /bytes?n=%d HTTP/1.0\r\n\r\n", size)
		reader := bufio.NewReader(slow)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			conn := dialRelay(t, web)
			fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
			if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "web-") {
				t.Fatalf("%q, %v", answer, err)
			}
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	t.Run("five hundred at once", func(t *testing.T) {
		before := runtime.NumGoroutine()
		var all sync.WaitGroup
		together := make(chan struct{})
		var connected sync.WaitGroup
		connected.Add(500)
		for range 500 {
			all.Go(func() {
				conn, err := net.Dial("tcp", greet)
				if err != nil {
					connected.Done()
					t.Error(err)
					return
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
				reader := bufio.NewReader(conn)
				_, err = reader.ReadString('\n')
				connected.Done()
				if err != nil {
					t.Error(err)
					return
				}
				<-together
				_, _ = io.WriteString(conn, "word\n")
				if line, err := reader.ReadString('\n'); line != "word\n" {
					t.Errorf("got %q, %v", line, err)
				}
			})
		}
		connected.Wait()
		var memory runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&memory)
		t.Logf("%d upstreams, %d goroutines, %d MB of heap and stack in all", len(tunnel.upstreams()), runtime.NumGoroutine()-before,
			(memory.HeapInuse+memory.StackInuse)>>20)
		close(together)
		all.Wait()
	})
}

func TestTunnel_ServesRedisBenchmark(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "redis", Namespace: ns, Image: c.EnsureImage(t, cluster.Redis)})
	addr, _ := startRelay(t, c.Kubeconfig(), specFor("service/redis:6379", ns))
	host, port, _ := net.SplitHostPort(addr)
	out, err := exec.Command("redis-benchmark", "-h", host, "-p", port, "-t", "set,get", "-n", "5000", "-c", "20", "-q").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "GET: ") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", strings.ReplaceAll(string(out), "\r", "\n"))
}
