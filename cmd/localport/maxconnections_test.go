package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/ports"
)

// countedServer counts the clients between their first and their second line.
type countedServer struct {
	*server
	open, most atomic.Int32
}

func serveCounted(t *testing.T) *countedServer {
	t.Helper()
	c := &countedServer{}
	c.server = startServer(t, "127.0.0.1:0", func(conn net.Conn) {
		lines := bufio.NewScanner(conn)
		lines.Scan()
		n := c.open.Add(1)
		for old := c.most.Load(); n > old && !c.most.CompareAndSwap(old, n); old = c.most.Load() {
		}
		fmt.Fprintln(conn, "hello")
		lines.Scan()
		c.open.Add(-1) // before the answer: the client disconnects then, and another one is served
		fmt.Fprintln(conn, "bye")
	})
	return c
}

// usePool is one client of a pool: it exchanges a line, and another one once releaseCh is closed.
func usePool(addr string, releaseCh <-chan struct{}) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	lines := bufio.NewReader(conn)
	for _, want := range []string{"hello\n", "bye\n"} {
		if _, err := fmt.Fprintln(conn, "a line"); err != nil {
			return err
		}
		if got, err := lines.ReadString('\n'); err != nil || got != want {
			return fmt.Errorf("got %q, %w", got, err)
		}
		<-releaseCh
	}
	return nil
}

func TestMaxConnections_PoolOfTwoHundredReachesServerInParts(t *testing.T) {
	t.Parallel()
	const limit, clients = 10, 200
	w := newTestEnv(t)
	upstream, port := serveCounted(t), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("db", port, upstream.server) + fmt.Sprintf("max_connections = %d\nhealth_check = { type = \"none\" }\n", limit))
	w.mustRun(root, "start")
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	releaseCh := make(chan struct{})
	var pool sync.WaitGroup
	for range clients {
		pool.Go(func() {
			if err := usePool(addr, releaseCh); err != nil {
				t.Error(err)
			}
		})
	}
	self := fmt.Sprintf("(pid %d) has %d of the connections", os.Getpid(), limit)
	eventually(t, "status says that the limit is reached, and by whom", func() bool {
		c := w.service(root, "db").Connections
		return c.Open == limit && c.Waiting == clients-limit && c.Unserved == clients-limit && strings.Contains(c.Shortage, "max_connections = 10 is reached; ") && strings.Contains(c.Shortage, self)
	})
	if out := w.mustRun(root, "status"); strings.Count(out, "max_connections = 10 is reached") != 1 || !strings.Contains(out, "raise max_connections") {
		t.Errorf("status:\n%s", out)
	}
	if out := w.mustRun(root, "status", "--json"); !strings.Contains(out, `"shortage": "max_connections = 10 is reached; `) || !strings.Contains(out, `"shortage_hint": "close some, `) || !strings.Contains(out, `"unserved": 190`) {
		t.Errorf("status --json:\n%s", out)
	}
	if out := w.mustRun(root, "status", "db"); !strings.Contains(out, "10 open of at most 10, 190 waiting") {
		t.Errorf("status db:\n%s", out)
	}
	if out := w.localport(root, "why", "db").stdout; !strings.Contains(out, "max_connections = 10 is reached; ") || !strings.Contains(out, ".localport.toml:") {
		t.Errorf("why db:\n%s", out)
	}
	close(releaseCh)
	pool.Wait()
	if most := upstream.most.Load(); most > limit {
		t.Errorf("the server had %d connections at once", most)
	}
	eventually(t, "the limit is not reached any more", func() bool { return w.service(root, "db").Connections.Shortage == "" })
	if c := w.service(root, "db").Connections; c.Total != clients || c.Resets != 0 {
		t.Errorf("got %+v", c)
	}
	for _, kind := range []eventlog.Kind{eventlog.ClientLimitReached, eventlog.ClientLimitCleared} {
		if events := w.events(root, kind); len(events) != 1 || events[0].Service != "db" {
			t.Errorf("%s: %+v", kind, events)
		}
	}
	if log := w.mustRun(root, "logs", "supervisor"); strings.Count(log, "max_connections = 10 is reached") != 1 {
		t.Errorf("the log:\n%s", log)
	}
	w.mustRun(root, "stop")
}

func TestMaxConnections_ReloadChangesLimitWithoutEndingConnections(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	config := func(limit string) string {
		return tcpConfig("db", port, upstream) + "connect_timeout = \"1s\"\nhealth_check = { type = \"none\" }\n" + limit
	}
	root := w.allowedProject(config("max_connections = 2\n"))
	w.mustRun(root, "start")
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	first, second := dial(t, addr), dial(t, addr)
	first.exchangeLine("hi")
	second.exchangeLine("hi")
	startTime := time.Now()
	checkReset(t, addr)
	if took := time.Since(startTime); took < time.Second/2 {
		t.Errorf("reset after %v, not after connect_timeout", took)
	}
	eventually(t, "the reset is counted", func() bool { return w.service(root, "db").Connections.Resets == 1 })

	reload := func(limit string, want int) {
		w.writeFile(root, ".localport.toml", config(limit))
		w.mustRun(root, "allow")
		eventually(t, "the change is applied", func() bool { return w.service(root, "db").Connections.Max == want })
	}
	reload("max_connections = 1\n", 1)
	first.exchangeLine("still here")
	second.exchangeLine("still here")
	reload("max_connections = 3\n", 3)
	third := dial(t, addr)
	third.exchangeLine("hi")
	reload("", 0)
	dial(t, addr).exchangeLine("hi")
	for _, conn := range []*connection{first, second, third} {
		conn.exchangeLine("still here")
	}
	if restarts := w.service(root, "db").Restarts; restarts != 0 {
		t.Errorf("the tunnel was replaced %d times", restarts)
	}
	w.mustRun(root, "stop")
}

func TestMaxConnections_ConfigShowNamesItsLine(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject("[defaults]\nmax_connections = 5\n" + tcpConfig("db", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	if out := w.mustRun(root, "config", "show", "db"); !strings.Contains(out, "max_connections = 5") {
		t.Errorf("config show:\n%s", out)
	}
	for value, want := range map[string]string{
		"0":     "must be 1 or more; without the key there is no limit",
		"-3":    "must be 1 or more; without the key there is no limit",
		`"20"`:  "must be an integer, not a string; remove the quotes",
		`"all"`: "must be an integer, not a string",
		"1.5":   "must be an integer, not a float",
	} {
		w.writeFile(root, ".localport.toml", "[defaults]\nmax_connections = "+value+"\n"+tcpConfig("db", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		if o := w.localport(root, "config", "validate"); o.code != 3 || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit %d: %s%s", value, o.code, o.stdout, o.stderr)
		}
	}
}
