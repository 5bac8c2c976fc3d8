package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/postgres"
	"github.com/localport-sh/localport/testdata/sshd"
)

// fault is something that fails while a project is running, and what users see of it.
type fault struct {
	// prepare returns a config with the service web at the port, and a function that causes the fault.
	prepare func(t *testing.T, w *testEnv, port int) (config string, inject func(root string))
	// The service's state in the end.
	state       forwarder.State
	message     string // part of last_error; empty: there is none
	restarts    int
	checkClient func(t *testing.T, addr string) // connects after the fault
}

// checkServed connects and checks that the client is answered.
func checkServed(t *testing.T, addr string) {
	t.Helper()
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("the client got %q, %v", answer, err)
	}
}

// checkReset connects and checks that the client gets no answer; the service resets it after connect_timeout at the latest.
func checkReset(t *testing.T, addr string) {
	t.Helper()
	if answer, err := ask(addr, "you"); answer != "" {
		t.Errorf("the client got %q, %v", answer, err)
	}
}

// killTunnel kills the only child of a project's supervisor, and returns when the supervisor has reaped it.
func (w *testEnv) killTunnel(root string) {
	w.t.Helper()
	w.waitKeeper(root) // it looks like a child until it is in a session of its own
	children := findChildren(w.t, w.supervisor(root).PID)
	if len(children) != 1 {
		w.t.Fatalf("children: %v", children)
	}
	if err := syscall.Kill(children[0].PID, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	w.waitReaped(root, children[0])
}

// waitReaped waits until the supervisor has waited for a child: all its threads have then ended, and its sockets are closed.
func (w *testEnv) waitReaped(root string, child lockstate.Process) {
	w.t.Helper()
	w.waitExit(child)
	eventually(w.t, "the supervisor has reaped the child", func() bool {
		svc := w.service(root, "web")
		return svc.Restarts > 0 || svc.State == forwarder.Restarting
	})
}

const quickCheck = "interval = \"100ms\", timeout = \"200ms\", failure_threshold = 2"

var faults = map[string]fault{
	"child killed": {
		prepare: func(t *testing.T, w *testEnv, port int) (string, func(string)) {
			return commandConfig(t, "web", port), func(root string) {
				w.killTunnel(root)
			}
		},
		state: forwarder.Healthy, restarts: 1, checkClient: checkServed,
	},
	"child frozen": {
		prepare: func(t *testing.T, w *testEnv, port int) (string, func(string)) {
			return commandConfig(t, "web", port), func(root string) {
				w.waitKeeper(root)
				child := findChildren(t, w.supervisor(root).PID)[0]
				if err := syscall.Kill(child.PID, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				w.waitReaped(root, child)
			}
		},
		state: forwarder.Healthy, restarts: 1, checkClient: checkServed,
	},
	"upstream refuses": {
		prepare: func(t *testing.T, _ *testEnv, port int) (string, func(string)) {
			host, upstream := sshd.Start(t), serve(t, fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t))) // nothing else may listen there later
			return sshConfig("web", port, host, upstream.port) + "connect_timeout = \"1s\"\nhealth_check = { " + quickCheck + " }\n",
				func(string) { upstream.close() }
		},
		state: forwarder.Unhealthy, message: "Connection refused", checkClient: checkReset,
	},
	"upstream never answers": {
		prepare: func(t *testing.T, _ *testEnv, port int) (string, func(string)) {
			upstream, answers := httpServer(t)
			return tcpConfig("web", port, upstream) + "health_check = { type = \"http\", " + quickCheck + " }\n", func(string) { close(answers.hang) }
		},
		state: forwarder.Unhealthy, message: "no answer to the health check within 200ms",
		checkClient: func(t *testing.T, addr string) {
			if _, err := getStatus(addr, time.Second); err == nil || !os.IsTimeout(err) {
				t.Errorf("the client got %v, want its own timeout", err)
			}
		},
	},
	"upstream answers slowly": {
		prepare: func(t *testing.T, _ *testEnv, port int) (string, func(string)) {
			upstream, answers := httpServer(t)
			return tcpConfig("web", port, upstream) + "health_check = { type = \"http\", " + quickCheck + " }\n", func(string) { close(answers.slow) }
		},
		state: forwarder.Unhealthy, message: "no answer to the health check within 200ms",
		checkClient: func(t *testing.T, addr string) {
			if status, err := getStatus(addr, 20*time.Second); status != http.StatusOK {
				t.Errorf("the client got %d, %v", status, err)
			}
		},
	},
	"wrong password": {
		prepare: func(t *testing.T, w *testEnv, port int) (string, func(string)) {
			s := postgres.Start(t, postgres.Options{Password: "hunter2hunter2"})
			config := func(password string) string {
				return fmt.Sprintf("[services.web]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\n"+
					"connection = { remote_host = \"127.0.0.1\" }\n"+
					"health_check = { type = \"postgres\", user = \"app\", database = \"app\", password = %q, interval = \"100ms\" }\n",
					port, s.Port, password)
			}
			return config("hunter2hunter2"), func(root string) {
				if svc := w.service(root, "web"); svc.State != forwarder.Healthy {
					t.Errorf("with the right password it is %s: %s", svc.State, svc.LastError)
				}
				w.writeFile(root, ".localport.toml", config("wrongwrong"))
				w.mustRun(root, "allow")
				for _, out := range []string{w.mustRun(root, "status", "--json"), w.mustRun(root, "logs", "supervisor"), w.mustRun(root, "events")} {
					if strings.Contains(out, "wrongwrong") || strings.Contains(out, "hunter2") {
						t.Errorf("the password is shown:\n%s", out)
					}
				}
			}
		},
		state: forwarder.Unhealthy, message: `password authentication failed for user "app" (SQLSTATE 28P01)`,
		checkClient: func(t *testing.T, addr string) { // a client with the right password is not affected
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			sslRequest := []byte{0, 0, 0, 8, 4, 210, 22, 47}
			if _, err := conn.Write(sslRequest); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			answer := make([]byte, 1)
			if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
				t.Errorf("the client got %q, %v", answer, err)
			}
		},
	},
	"port in use": {
		prepare: func(t *testing.T, w *testEnv, port int) (string, func(string)) {
			upstream := serve(t, "127.0.0.1:0")
			return tcpConfig("web", port, upstream), func(root string) {
				w.mustRun(root, "stop", "web")
				serve(t, fmt.Sprintf("127.0.0.1:%d", port))
				if o := w.localport(root, "start", "web"); o.code != output.ExitFailed {
					t.Errorf("start of a service whose port is in use: exit %d", o.code)
				}
			}
		},
		state: forwarder.Failed, message: fmt.Sprintf("(pid %d)", os.Getpid()), checkClient: checkServed,
	},
	"config invalid": {
		prepare: func(t *testing.T, w *testEnv, port int) (string, func(string)) {
			return tcpConfig("web", port, serve(t, "127.0.0.1:0")), func(root string) {
				w.writeFile(root, ".localport.toml", "[services.web\n")
			}
		},
		state: forwarder.Healthy, checkClient: checkServed,
	},
	"disk full for logs and state": {
		prepare: func(t *testing.T, w *testEnv, port int) (string, func(string)) {
			return commandConfig(t, "web", port), func(root string) {
				limitFileSize(t, w.supervisor(root).PID, 0)
				w.killTunnel(root)
			}
		},
		state: forwarder.Healthy, restarts: 1, checkClient: checkServed,
	},
}

func TestFaults_AreReportedAndContained(t *testing.T) {
	t.Parallel()
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			config, inject := f.prepare(t, w, port)
			root := w.allowedProject(config)
			w.mustRun(root, "start")
			supervisor := w.supervisor(root)
			inject(root)
			f.checkClient(t, addr)
			eventually(t, "the service is in the expected state", func() bool {
				svc := w.service(root, "web")
				return svc.State == f.state && strings.Contains(svc.LastError, f.message) && svc.Restarts == f.restarts
			})
			f.checkClient(t, addr)
			svc := w.service(root, "web")
			if svc.State != f.state || svc.Restarts != f.restarts || (f.message == "") != (svc.LastError == "") {
				t.Errorf("the service is %s after %d restarts: %q", svc.State, svc.Restarts, svc.LastError)
			}
			if name == "config invalid" && !strings.Contains(w.status(root).Pending, ".localport.toml changed") {
				t.Errorf("pending: %q", w.status(root).Pending)
			}
			if w.supervisor(root) != supervisor {
				t.Error("the supervisor was replaced")
			}
		})
	}
}

func TestLog_ReportsLostLinesAfterAFullDisk(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(commandConfig(t, "web", ports.FreePort(t)))
	w.mustRun(root, "start")
	supervisor := w.supervisor(root)
	limitFileSize(t, supervisor.PID, 0)
	w.killTunnel(root)
	eventually(t, "the tunnel is replaced", func() bool {
		svc := w.service(root, "web")
		return svc.Restarts == 1 && svc.State == forwarder.Healthy
	})
	limitFileSize(t, supervisor.PID, math.MaxUint64)
	w.mustRun(root, "restart")
	if out := w.mustRun(root, "logs", "supervisor"); !strings.Contains(out, " lines lost: ") {
		t.Errorf("the log does not report its lost lines:\n%s", out)
	}
	w.stopProject(root)
}

// answerMode controls an HTTP server that normally answers at once: it never answers once hang is closed, and answers slowly once slow is.
type answerMode struct{ hang, slow chan struct{} }

func httpServer(t *testing.T) (*server, answerMode) {
	t.Helper()
	m := answerMode{make(chan struct{}), make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-m.hang:
			<-r.Context().Done()
		case <-m.slow:
			select {
			case <-time.After(3 * time.Second): // far more than the check's timeout, also on a busy machine
			case <-r.Context().Done():
			}
		default:
		}
	})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done //nolint:errcheck // always http.ErrServerClosed
	})
	return &server{addr: ln.Addr().String(), port: ln.Addr().(*net.TCPAddr).Port, ln: ln}, m
}

// getStatus requests a page and returns its HTTP status.
func getStatus(addr string, timeout time.Duration) (int, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return response.StatusCode, nil
}
