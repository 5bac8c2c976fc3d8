package native

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/cluster"
)

// farAway puts a network before an API server: every byte takes half of the round trip each way, and one piece in a
// hundred is lost and comes a retransmission later.
func farAway(t testing.TB, server string, roundTrip time.Duration) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open[c] = true
	}
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			keep(near)
			running.Go(func() {
				// The handshake of TCP is a round trip too, which the client does not wait for here: its first bytes do.
				<-time.After(roundTrip)
				far, err := net.Dial("tcp4", strings.TrimPrefix(server, "https://"))
				if err != nil {
					near.Close()
					return
				}
				keep(far)
				running.Go(func() { delayed(far, near, roundTrip/2) })
				delayed(near, far, roundTrip/2)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return "https://" + l.Addr().String()
}

// delayed passes pieces on, each some time after it came, in order.
func delayed(to, from net.Conn, delay time.Duration) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 4096)
	go func() {
		defer close(pieces)
		for {
			data := make([]byte, 16<<10)
			n, err := from.Read(data)
			late := delay
			if rand.N(100) == 0 {
				late += 2*delay + 50*time.Millisecond
			}
			if n > 0 {
				pieces <- piece{time.Now().Add(late), data[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	var broken error
	for p := range pieces {
		if broken == nil {
			<-time.After(time.Until(p.due))
			_, broken = to.Write(p.data)
		}
	}
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
}

// Clients that come at once to a cluster that is far away share upstreams. Some of them may take their time to read.
func TestASlowReaderFarAwayHoldsUpNobodyElse(t *testing.T) {
	c := theCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	cert, key := c.Credential(t, "slow", cluster.Identity{User: "slow", Groups: []string{"system:masters"}})
	config := c.KubeconfigFor(t, "slow", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), farAway(t, c.Server(), 50*time.Millisecond))
	addr, tunnel := listen(t, config, to("service/web:80", ns))
	const size = 16 << 20 // more than sockets take
	ask := func(what string) *bufio.Reader {
		conn := visit(t, addr)
		fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", what)
		return bufio.NewReader(conn)
	}
	var slow, others []*bufio.Reader
	for i := range 24 {
		if i%8 == 0 {
			slow = append(slow, ask(fmt.Sprintf("/bytes?n=%d", size)))
		} else {
			others = append(others, ask("/"))
		}
	}
	for _, r := range others {
		if all, err := io.ReadAll(r); err != nil || !strings.Contains(string(all), "web-") {
			t.Errorf("%q, %v", all, err)
		}
	}
	t.Logf("%d upstreams", len(tunnel.upstreams()))
	for _, r := range slow {
		if resp, err := http.ReadResponse(r, nil); err != nil {
			t.Error(err)
		} else if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

// burst is how long it takes until fifty clients who come at once are greeted.
func burst(t testing.TB, addr string) time.Duration {
	t.Helper()
	began := time.Now()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "hello ") {
				t.Errorf("%q, %v", line, err)
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

// BenchmarkBurstFarAway is a burst of fifty clients at a cluster that is far away, beside kubectl's one shared connection.
func BenchmarkBurstFarAway(b *testing.B) {
	c := theCluster(b)
	ns := c.Namespace(b)
	c.Deploy(b, cluster.Deployment{Name: "web", Namespace: ns})
	cert, key := c.Credential(b, "far", cluster.Identity{User: "far", Groups: []string{"system:masters"}})
	for _, roundTrip := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		b.Run(roundTrip.String(), func(b *testing.B) {
			config := c.KubeconfigFor(b, "far", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), farAway(b, c.Server(), roundTrip))
			addr, tunnel := listen(b, config, to("service/web:7000", ns))
			peer := kubectl(b, config, ns, "service/web", "7000")
			burst(b, peer)
			var ours, theirs time.Duration
			for b.Loop() {
				quiet(b, tunnel)
				ours += burst(b, addr)
				theirs += burst(b, peer)
			}
			b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms/localport")
			b.ReportMetric(float64(theirs.Milliseconds())/float64(b.N), "ms/kubectl")
			b.ReportMetric(float64(ours)/float64(theirs), "ratio")
		})
	}
}

// quiet waits until the tunnel is as it is before the first client of all: no client is left, and what is kept warm is there.
func quiet(t testing.TB, tunnel *tunnel) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		tunnel.pool.mu.Lock()
		busy, filling, warm := 0, tunnel.pool.filling, 0
		for u := range tunnel.pool.all {
			busy += u.clients + u.leaving
			warm++
		}
		want := tunnel.pool.warm()
		tunnel.pool.mu.Unlock()
		if busy == 0 && filling == 0 && warm >= want {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatalf("%d clients, %d upstreams", busy, warm)
		}
	}
}

// kubectl is a bare kubectl port-forward, and where it listens.
func kubectl(t testing.TB, kubeconfig, namespace, resource, port string) (addr string) {
	t.Helper()
	cmd := exec.Command("kubectl", "port-forward", "-n", namespace, resource, ":"+port)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if addr = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line); addr == "" {
		t.Fatalf("kubectl said %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return addr
}

func TestNobodyIsLostOverALossyNetworkThatIsFarAway(t *testing.T) {
	c := theCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	cert, key := c.Credential(t, "lossy", cluster.Identity{User: "lossy", Groups: []string{"system:masters"}})
	config := c.KubeconfigFor(t, "lossy", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), farAway(t, c.Server(), 200*time.Millisecond))
	addr, _ := listen(t, config, to("service/web:7000", ns))
	for range 3 {
		burst(t, addr)
	}
}

// A node that is slow to take up one connection is no reason to end the others.
func TestAnUpstreamThatOthersUseIsNotGivenUpForOneConnection(t *testing.T) {
	c := theCluster(t)
	if c.Containerd == nil {
		t.Skip("pods end with a stand-in")
	}
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	tunnel := open(t, c.Kubeconfig(), to("service/web:7000", ns))
	first := dial(t, tunnel)
	greeting(t, first)
	soiled := func(others bool) (only bool) {
		tunnel.pool.mu.Lock()
		defer tunnel.pool.mu.Unlock()
		tunnel.pool.cost = time.Second // so that several share one
		for u := range tunnel.pool.all {
			if u != upstreamOf(first) {
				u.soiled = u.soiled || others
			}
		}
		return upstreamOf(first).soiled
	}
	c.Containerd.Freeze()
	defer c.Containerd.Thaw()
	soiled(true) // the first's it is to be
	second := make(chan net.Conn, 1)
	go func() {
		defer close(second)
		if conn, err := tunnel.Dial(t.Context()); err != nil {
			t.Error(err)
		} else {
			second <- conn
		}
	}()
	// No other can be opened now, but one that was about to be may still have come.
	for limit := time.After(30 * time.Second); !soiled(true); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatal("the second connection has not been tried anew")
		}
	}
	c.Containerd.Thaw()
	if _, err := io.WriteString(first, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(first).ReadString('\n'); line != "still here\n" {
		t.Errorf("%q, %v", line, err)
	}
	if conn, ok := <-second; ok {
		defer conn.Close()
		greeting(t, conn)
		if upstreamOf(conn) == upstreamOf(first) {
			t.Error("the two share an upstream")
		}
	}
}

// A crowd that waited for a server's return is let in by and by, and shares what its first have opened.
func TestACrowdAfterAnOutageDoesNotOpenAsManyUpstreams(t *testing.T) {
	c := theCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	tunnel := open(t, c.Kubeconfig(), to("service/web:7000", ns))
	greeting(t, dial(t, tunnel))
	c.APIServer.Freeze()
	defer c.APIServer.Thaw()
	var crowd sync.WaitGroup
	for range 200 {
		crowd.Go(func() {
			conn, err := tunnel.Dial(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "hello ") {
				t.Errorf("%q, %v", line, err)
			}
		})
	}
	for limit := time.After(20 * time.Second); ; {
		tunnel.pool.mu.Lock()
		waits := tunnel.pool.eased.HasWaiters()
		for uid, n := range tunnel.pool.opening {
			if n > once {
				t.Errorf("%d are being opened to pod %s", n, uid)
			}
		}
		tunnel.pool.cost = time.Second // as it is after an outage that is worth the name
		tunnel.pool.mu.Unlock()
		if waits {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatal("nobody waits for a turn")
		}
	}
	c.APIServer.Thaw()
	crowd.Wait()
	if n := len(tunnel.upstreams()); n > 100 {
		t.Errorf("%d upstreams for a crowd of 200", n)
	}
	tunnel.pool.mu.Lock()
	defer tunnel.pool.mu.Unlock()
	if len(tunnel.pool.opening) > 0 {
		t.Errorf("still being opened: %v", tunnel.pool.opening)
	}
}

func upstreamOf(c net.Conn) *upstream { return c.(*conn).up }
