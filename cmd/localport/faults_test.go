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

// fault is something that goes wrong while a project is up, and what its user sees of it.
type fault struct {
	// begin makes the project's config, of a service called web at the port; with it comes what breaks it.
	begin func(t *testing.T, w *world, port int) (config string, breaks func(root string))
	// What the service is in the end.
	state    forwarder.State
	message  string // in last_error, or for a config in pending; empty: there is none
	restarts int
	client   func(t *testing.T, addr string) // a client that comes once it is broken
}

// served is a client that gets its answer.
func served(t *testing.T, addr string) {
	t.Helper()
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("the client got %q, %v", answer, err)
	}
}

// reset is a client that is turned away, after connect_timeout at the latest.
func reset(t *testing.T, addr string) {
	t.Helper()
	if answer, err := ask(addr, "you"); answer != "" {
		t.Errorf("the client got %q, %v", answer, err)
	}
}

// servedByAnother is a client of whatever has the port.
func servedByAnother(t *testing.T, addr string) {
	t.Helper()
	if answer, err := ask(addr, "you"); answer != "hello you\n" {
		t.Errorf("the client of the other program got %q, %v", answer, err)
	}
}

// killTunnel kills the only child of a project's supervisor. It has ended when killTunnel returns: a client that had
// spoken to it would be lost with it.
func (w *world) killTunnel(root string) {
	w.t.Helper()
	children := childrenOf(w.t, w.supervisor(root).PID)
	if len(children) != 1 {
		w.t.Fatalf("children: %v", children)
	}
	if err := syscall.Kill(children[0].PID, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	w.reaped(root, children[0])
}

// reaped waits until the supervisor has waited for a child: then all its threads have ended, and its sockets are closed.
func (w *world) reaped(root string, child lockstate.Process) {
	w.t.Helper()
	w.waitExit(child)
	eventually(w.t, "the supervisor has seen it", func() bool {
		svc := w.service(root, "web")
		return svc.Restarts > 0 || svc.State == forwarder.Restarting
	})
}

const quickCheck = "interval = \"100ms\", timeout = \"200ms\", failure_threshold = 2"

var faults = map[string]fault{
	"child killed": {
		begin: func(t *testing.T, w *world, port int) (string, func(string)) {
			return commandConfig(t, "web", port), func(root string) {
				w.killTunnel(root)
			}
		},
		state: forwarder.Healthy, restarts: 1, client: served,
	},
	"child frozen": {
		begin: func(t *testing.T, w *world, port int) (string, func(string)) {
			return commandConfig(t, "web", port), func(root string) {
				child := childrenOf(t, w.supervisor(root).PID)[0]
				if err := syscall.Kill(child.PID, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				w.reaped(root, child)
			}
		},
		state: forwarder.Healthy, restarts: 1, client: served,
	},
	"far end refuses": {
		begin: func(t *testing.T, _ *world, port int) (string, func(string)) {
			host, far := sshd.Start(t), serve(t, "127.0.0.1:0")
			return sshConfig("web", port, host, far.port) + "connect_timeout = \"1s\"\nhealth_check = { " + quickCheck + " }\n",
				func(string) { far.close() }
		},
		state: forwarder.Unhealthy, message: "Connection refused", client: reset,
	},
	"far end silent": {
		begin: func(t *testing.T, _ *world, port int) (string, func(string)) {
			far, answers := httpServer(t)
			return tcpConfig("web", port, far) + "health_check = { type = \"http\", " + quickCheck + " }\n", func(string) { close(answers.never) }
		},
		state: forwarder.Unhealthy, message: "no answer to the health check within 200ms",
		client: func(t *testing.T, addr string) {
			if _, err := get(addr, time.Second); err == nil || !os.IsTimeout(err) {
				t.Errorf("the client got %v, want its own patience to end", err)
			}
		},
	},
	"far end slow": {
		begin: func(t *testing.T, _ *world, port int) (string, func(string)) {
			far, answers := httpServer(t)
			return tcpConfig("web", port, far) + "health_check = { type = \"http\", " + quickCheck + " }\n", func(string) { close(answers.slowly) }
		},
		state: forwarder.Unhealthy, message: "no answer to the health check within 200ms",
		client: func(t *testing.T, addr string) {
			if status, err := get(addr, 20*time.Second); status != http.StatusOK {
				t.Errorf("the client got %d, %v", status, err)
			}
		},
	},
	"wrong password": {
		begin: func(t *testing.T, w *world, port int) (string, func(string)) {
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
				for _, told := range []string{w.mustRun(root, "status", "--json"), w.mustRun(root, "logs", "supervisor"), w.mustRun(root, "events")} {
					if strings.Contains(told, "wrongwrong") || strings.Contains(told, "hunter2") {
						t.Errorf("the password is told:\n%s", told)
					}
				}
			}
		},
		state: forwarder.Unhealthy, message: `password authentication failed for user "app" (SQLSTATE 28P01)`,
		client: func(t *testing.T, addr string) { // who knows the password comes in all the same
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
			if answer := make([]byte, 1); !readsOne(conn, answer) || answer[0] != 'N' {
				t.Errorf("the client got %q", answer)
			}
		},
	},
	"port taken": {
		begin: func(t *testing.T, w *world, port int) (string, func(string)) {
			far := serve(t, "127.0.0.1:0")
			return tcpConfig("web", port, far), func(root string) {
				w.mustRun(root, "stop", "web")
				serve(t, fmt.Sprintf("127.0.0.1:%d", port))
				if o := w.localport(root, "start", "web"); o.code != output.ExitFailed {
					t.Errorf("start of a service whose port is taken: exit %d", o.code)
				}
			}
		},
		state: forwarder.Failed, message: fmt.Sprintf("(pid %d)", os.Getpid()), client: servedByAnother,
	},
	"config broken": {
		begin: func(t *testing.T, w *world, port int) (string, func(string)) {
			return tcpConfig("web", port, serve(t, "127.0.0.1:0")), func(root string) {
				w.writeFile(root, ".localport.toml", "[services.web\n")
			}
		},
		state: forwarder.Healthy, client: served,
	},
	"disk full for logs and state": {
		begin: func(t *testing.T, w *world, port int) (string, func(string)) {
			return commandConfig(t, "web", port), func(root string) {
				limitFiles(t, w.supervisor(root).PID, 0)
				w.killTunnel(root)
			}
		},
		state: forwarder.Healthy, restarts: 1, client: served,
	},
}

func TestFaults_AreReportedAndContained(t *testing.T) {
	t.Parallel()
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			port := ports.FreePort(t)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			config, breaks := f.begin(t, w, port)
			root := w.allowedProject(config)
			w.mustRun(root, "start")
			supervisor := w.supervisor(root)
			breaks(root)
			f.client(t, addr)
			eventually(t, "it is as it must be", func() bool {
				svc := w.service(root, "web")
				return svc.State == f.state && strings.Contains(svc.LastError, f.message) && svc.Restarts == f.restarts
			})
			f.client(t, addr)
			svc := w.service(root, "web")
			if svc.State != f.state || svc.Restarts != f.restarts || (f.message == "") != (svc.LastError == "") {
				t.Errorf("it is %s after %d restarts: %q", svc.State, svc.Restarts, svc.LastError)
			}
			if name == "config broken" && !strings.Contains(w.status(root).Pending, "the config files changed") {
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
	w := newWorld(t)
	root := w.allowedProject(commandConfig(t, "web", ports.FreePort(t)))
	w.mustRun(root, "start")
	supervisor := w.supervisor(root)
	limitFiles(t, supervisor.PID, 0)
	w.killTunnel(root)
	eventually(t, "the tunnel is replaced", func() bool {
		svc := w.service(root, "web")
		return svc.Restarts == 1 && svc.State == forwarder.Healthy
	})
	limitFiles(t, supervisor.PID, math.MaxUint64)
	w.mustRun(root, "restart")
	if out := w.mustRun(root, "logs", "supervisor"); !strings.Contains(out, " lines lost: ") {
		t.Errorf("the log does not report its lost lines:\n%s", out)
	}
	w.down(root)
}

func readsOne(conn net.Conn, into []byte) bool {
	_, err := io.ReadFull(conn, into)
	return err == nil
}

// answerMode is how an HTTP server answers: at once, until one of these is closed.
type answerMode struct{ never, slowly chan struct{} }

func httpServer(t *testing.T) (*server, answerMode) {
	t.Helper()
	m := answerMode{make(chan struct{}), make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-m.never:
			<-r.Context().Done()
		case <-m.slowly:
			select {
			case <-time.After(3 * time.Second): // far beyond the check's patience, also on a busy machine
			case <-r.Context().Done():
			}
		default:
		}
	})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done //nolint:errcheck // that it was closed
	})
	return &server{addr: ln.Addr().String(), port: ln.Addr().(*net.TCPAddr).Port, ln: ln}, m
}

// get asks for a page and returns its status.
func get(addr string, patience time.Duration) (int, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
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
