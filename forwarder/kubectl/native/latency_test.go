package native

import (
	"bufio"
	"context"
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

// startDelayProxy starts a proxy to an API server that simulates a network: each direction takes half of the round trip time, and
// one piece in a hundred is delayed by a retransmission. stop ends it and its connections.
func startDelayProxy(t testing.TB, server string, roundTrip time.Duration) (addr string, stop func()) {
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
			clientConn, err := l.Accept()
			if err != nil {
				return
			}
			keep(clientConn)
			running.Go(func() {
				// The TCP handshake takes a round trip too, which the client of a proxy does not notice: its first bytes are delayed.
				<-time.After(roundTrip)
				serverConn, err := net.Dial("tcp4", strings.TrimPrefix(server, "https://"))
				if err != nil {
					clientConn.Close()
					return
				}
				keep(serverConn)
				running.Go(func() { copyDelayed(serverConn, clientConn, roundTrip/2) })
				copyDelayed(clientConn, serverConn, roundTrip/2)
			})
		}
	})
	stop = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	t.Cleanup(stop)
	return "https://" + l.Addr().String(), stop
}

// copyDelayed copies in order, with a delay.
func copyDelayed(to, from net.Conn, delay time.Duration) {
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

// Many concurrent clients of a distant cluster share upstreams. Some of them read slowly.
func TestPool_SlowReaderOnASharedUpstreamDelaysNobody(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	cert, key := c.Credential(t, "slow", cluster.Identity{User: "slow", Groups: []string{"system:masters"}})
	server, _ := startDelayProxy(t, c.Server(), 50*time.Millisecond)
	config := c.KubeconfigFor(t, "slow", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), server)
	addr, tunnel := startRelay(t, config, specFor("service/web:80", ns))
	const size = 16 << 20 // more than socket buffers hold
	request := func(what string) *bufio.Reader {
		conn := dialRelay(t, addr)
		fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", what)
		return bufio.NewReader(conn)
	}
	var slow, others []*bufio.Reader
	for i := range 24 {
		if i%8 == 0 {
			slow = append(slow, request(fmt.Sprintf("/bytes?n=%d", size)))
		} else {
			others = append(others, request("/"))
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

// connectBurst connects fifty clients at once, and returns after which time all have received the greeting.
func connectBurst(t testing.TB, addr string) time.Duration {
	t.Helper()
	start := time.Now()
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
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
	clients.Wait()
	return time.Since(start)
}

// BenchmarkBurstFarAway measures a burst of fifty clients of a distant cluster, compared to kubectl with its one shared connection.
func BenchmarkBurstFarAway(b *testing.B) {
	c := startCluster(b)
	ns := c.Namespace(b)
	c.Deploy(b, cluster.Deployment{Name: "web", Namespace: ns})
	cert, key := c.Credential(b, "far", cluster.Identity{User: "far", Groups: []string{"system:masters"}})
	for _, roundTrip := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		b.Run(roundTrip.String(), func(b *testing.B) {
			server, _ := startDelayProxy(b, c.Server(), roundTrip)
			config := c.KubeconfigFor(b, "far", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), server)
			addr, tunnel := startRelay(b, config, specFor("service/web:7000", ns))
			peer := startKubectl(b, config, ns, "service/web", "7000")
			connectBurst(b, peer)
			var ours, theirs time.Duration
			for b.Loop() {
				waitUntilWarm(b, tunnel)
				ours += connectBurst(b, addr)
				theirs += connectBurst(b, peer)
			}
			b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms/localport")
			b.ReportMetric(float64(theirs.Milliseconds())/float64(b.N), "ms/kubectl")
			b.ReportMetric(float64(ours)/float64(theirs), "ratio")
		})
	}
}

// waitUntilWarm waits until the tunnel has no clients and warmTarget idle upstreams, as before its first client.
func waitUntilWarm(t testing.TB, tunnel *tunnel) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		tunnel.pool.mu.Lock()
		busy, filling, warm := 0, tunnel.pool.warmDials, 0
		for u := range tunnel.pool.upstreams {
			busy += u.clients + u.halfClosedClients
			warm++
		}
		want := tunnel.pool.warmTarget()
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

// startKubectl starts "kubectl port-forward" and returns the address on which it listens.
func startKubectl(t testing.TB, kubeconfig, namespace, resource, port string) (addr string) {
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
		t.Fatalf("kubectl printed %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return addr
}

func TestTunnel_LosesNoClientOverALossyHighLatencyNetwork(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	cert, key := c.Credential(t, "lossy", cluster.Identity{User: "lossy", Groups: []string{"system:masters"}})
	server, _ := startDelayProxy(t, c.Server(), 200*time.Millisecond)
	config := c.KubeconfigFor(t, "lossy", fmt.Sprintf("{client-certificate: %s, client-key: %s}", cert, key), server)
	addr, _ := startRelay(t, config, specFor("service/web:7000", ns))
	for range 3 {
		connectBurst(t, addr)
	}
}

// A connection that a node does not accept in time must not end other clients of the upstream.
func TestPool_UpstreamInUseSurvivesATimedOutConnection(t *testing.T) {
	c := startCluster(t)
	if c.Containerd == nil {
		t.Skip("pods end with a stand-in")
	}
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	tunnel := openTunnel(t, c.Kubeconfig(), specFor("service/web:7000", ns))
	first := dial(t, tunnel)
	readGreeting(t, first)
	drainOthers := func() (isFirstDraining bool) {
		tunnel.pool.mu.Lock()
		defer tunnel.pool.mu.Unlock()
		tunnel.pool.dialTime = time.Second // so that several share one
		for u := range tunnel.pool.upstreams {
			if u != upstreamOf(first) {
				u.isDraining = true
			}
		}
		return upstreamOf(first).isDraining
	}
	// A warm upstream that is added later could take the second connection, and the next one its retry, until a ping ends the first
	// upstream.
	isDialing := func() bool {
		tunnel.pool.mu.Lock()
		defer tunnel.pool.mu.Unlock()
		return tunnel.pool.warmDials > 0 || tunnel.pool.isReplacementScheduled
	}
	for limit := time.After(30 * time.Second); isDialing(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatal("warm upstreams are still being opened")
		}
	}
	c.Containerd.Freeze()
	defer c.Containerd.Thaw()
	drainOthers() // the second connection is to use the upstream of the first
	second := make(chan net.Conn, 1)
	dialSecond := func() {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			conn, err := tunnel.Dial(ctx)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			second <- conn // nil after an error
		}()
	}
	dialSecond()
	for limit := time.After(2 * time.Minute); !drainOthers(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case conn := <-second: // on a busy machine it did not use the upstream of the first
			if conn != nil {
				conn.Close()
			}
			dialSecond()
		case <-limit:
			t.Fatal("the second connection has not been retried")
		}
	}
	c.Containerd.Thaw()
	if _, err := io.WriteString(first, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(first).ReadString('\n'); line != "still here\n" {
		t.Errorf("%q, %v", line, err)
	}
	conn := <-second
	if conn == nil {
		conn = dial(t, tunnel)
	}
	defer conn.Close()
	readGreeting(t, conn)
	if upstreamOf(conn) == upstreamOf(first) {
		t.Error("the two share an upstream")
	}
}

// Clients that waited for a server are connected gradually, and share the upstreams that the first of them opened.
func TestPool_LimitsDialsAfterAnOutage(t *testing.T) {
	c := startCluster(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns})
	tunnel := openTunnel(t, c.Kubeconfig(), specFor("service/web:7000", ns))
	readGreeting(t, dial(t, tunnel))
	c.APIServer.Freeze()
	defer c.APIServer.Thaw()
	var clients sync.WaitGroup
	for range 200 {
		clients.Go(func() {
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
		waits := false
		for uid, n := range tunnel.pool.clientDials {
			waits = waits || n == maxDialsPerPod // the other clients wait
			if n > maxDialsPerPod {
				t.Errorf("%d are being opened to pod %s", n, uid)
			}
		}
		tunnel.pool.dialTime = time.Second // as after a long outage
		tunnel.pool.mu.Unlock()
		if waits {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatal("no client waits for a slot")
		}
	}
	c.APIServer.Thaw()
	clients.Wait()
	if n := len(tunnel.upstreams()); n > 100 {
		t.Errorf("%d upstreams for 200 clients", n)
	}
	tunnel.pool.mu.Lock()
	defer tunnel.pool.mu.Unlock()
	if len(tunnel.pool.clientDials) > 0 {
		t.Errorf("still being opened: %v", tunnel.pool.clientDials)
	}
}

func upstreamOf(c net.Conn) *upstream { return c.(*conn).upstream }
