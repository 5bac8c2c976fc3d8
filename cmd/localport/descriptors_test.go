package main

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/testdata/ports"
)

// runWithFileLimit runs a command that may have this many files open, and so may the supervisor that it starts.
func (w *testEnv) runWithFileLimit(files int, dir string, args ...string) commandResult {
	w.t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), w.exe}, args...)...)
	cmd.Dir, cmd.Env = dir, w.env
	return w.run(cmd)
}

// openIdleConns opens n connections that send nothing.
func openIdleConns(t *testing.T, addr string, n int) (closeAll func()) {
	t.Helper()
	var conns []net.Conn
	for range n {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	closeAll = func() {
		for _, conn := range conns {
			conn.Close()
		}
	}
	t.Cleanup(closeAll)
	return closeAll
}

func TestDescriptors_ManyIdleClientsOfOneServiceBlockNoOther(t *testing.T) {
	t.Parallel()
	const idle, limit, connectTimeout = 480, 1024, 3 * time.Second
	w := newTestEnv(t)
	upstream, port := serve(t, "127.0.0.1:0"), []int{ports.FreePort(t), ports.FreePort(t)}
	root := w.allowedProject(tcpConfig("web", port[0], upstream) + fmt.Sprintf("connect_timeout = %q\n", connectTimeout) + tcpConfig("api", port[1], upstream))
	web, api := fmt.Sprintf("127.0.0.1:%d", port[0]), fmt.Sprintf("127.0.0.1:%d", port[1])
	if o := w.runWithFileLimit(limit, root, "start"); o.code != 0 {
		t.Fatalf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
	closeAll := openIdleConns(t, web, idle)

	eventually(t, "status reports that no descriptor is free", func() bool { return w.service(root, "web").Connections.Shortage != "" })
	checkServed(t, api)
	if c := w.service(root, "api").Connections; c.Shortage != "" {
		t.Errorf("api: %+v", c)
	}
	eventually(t, "web has its share of the connections", func() bool { return w.service(root, "web").Connections.Open >= idle/2 })
	if out := w.mustRun(root, "status"); !strings.Contains(out, "web: no file descriptors are free") {
		t.Errorf("status:\n%s", out)
	}

	startTime := time.Now()
	checkReset(t, web)
	if took := time.Since(startTime); took > 2*connectTimeout {
		t.Errorf("the client waited for %v", took)
	}
	closeAll()
	eventually(t, "status reports free descriptors again", func() bool { return w.service(root, "web").Connections.Shortage == "" })
	checkServed(t, web)
	eventually(t, "there are events for both", func() bool {
		return len(w.events(root, eventlog.ClientLimitReached)) > 0 && len(w.events(root, eventlog.ClientLimitCleared)) > 0
	})
	if log := w.mustRun(root, "logs", "supervisor"); !strings.Contains(log, "cannot serve more connections") {
		t.Errorf("the log:\n%s", log)
	}
	if state := w.service(root, "web").State; state != forwarder.Healthy {
		t.Errorf("web is %s", state)
	}
	w.mustRun(root, "stop")
}

func TestDescriptors_SupervisorWithTooFewDoesNotStart(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	o := w.runWithFileLimit(64, root, "start")
	if want := `too few file descriptors: limit is 64, at least 137 are needed: raise it with "ulimit -n 1024"`; o.code == 0 || !strings.Contains(o.stderr, want) {
		t.Errorf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
	if o := w.runWithFileLimit(256, root, "start"); o.code != 0 {
		t.Errorf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
	w.mustRun(root, "stop")
}
