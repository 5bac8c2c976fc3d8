// Package nginx starts a real nginx for a test: one process, on a free port, as the current user, who need not be root.
package nginx

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/testdata/ports"
)

// Server is a running nginx.
type Server struct {
	Addr string // host:port
	Root string // the directory of the files that it serves

	t           testing.TB
	program     string
	dir         string
	configLines []string
	process     *process.Child

	mu  sync.Mutex
	log strings.Builder
}

// Start starts a server with lines in its server block, and returns when it listens. The server ends with the test.
func Start(t testing.TB, lines ...string) *Server {
	t.Helper()
	return start(t, "", lines)
}

// StartTLS is Start for a server that speaks TLS, with the certificate and key in these files.
func StartTLS(t testing.TB, certFile, keyFile string, lines ...string) *Server {
	t.Helper()
	return start(t, " ssl", append(lines, "ssl_certificate "+certFile+";", "ssl_certificate_key "+keyFile+";"))
}

// start starts a server; listenFlags follow the address in its listen directive.
func start(t testing.TB, listenFlags string, lines []string) *Server {
	t.Helper()
	path := "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/usr/local/sbin:/sbin" // an ordinary user's seldom has these
	program, err := process.LookPath("nginx", []string{path}, "/")
	if err != nil {
		t.Skip("nginx is missing (Debian: nginx-light)")
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports.FreePort(t)))
	s := &Server{Addr: addr, t: t, program: program, dir: t.TempDir()}
	s.Root = filepath.Join(s.dir, "root")
	s.configLines = append([]string{"listen " + s.Addr + listenFlags + ";", "root " + s.Root + ";"}, lines...)
	if err := os.Mkdir(s.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.Start()
	return s
}

// Start starts a stopped server again at the same address, and returns when it listens.
func (s *Server) Start() {
	s.t.Helper()
	listeningCh := make(chan struct{}, 1)
	nginx, err := process.Start(process.Command{
		Argv: []string{s.program, "-p", s.dir, "-e", "stderr", "-c", s.writeConfig()},
		Dir:  s.dir,
		Env:  append(os.Environ(), "LOCALPORT_TEST_SERVER=nginx"), // .ci/leftovers looks for it
		OnLine: func(_ process.Stream, line string) {
			s.mu.Lock()
			s.log.WriteString(line + "\n")
			s.mu.Unlock()
			if strings.Contains(line, `using the "`) { // the event loop begins, and the listeners are open
				listeningCh <- struct{}{}
			}
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = nginx
	select {
	case <-listeningCh:
	case <-nginx.Done():
		s.t.Fatalf("nginx ended: %s", s.Log())
	case <-time.After(60 * time.Second):
		s.t.Fatalf("nginx does not listen: %s", s.Log())
	}
}

// Stop ends the server. It may be called more than once.
func (s *Server) Stop() {
	if s.process != nil {
		s.process.Stop(2 * time.Second)
	}
}

// Log returns what all starts of the server have printed.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// writeConfig writes nginx.conf and returns its path. Without a master process there are no worker processes that could outlive it.
func (s *Server) writeConfig() string {
	s.t.Helper()
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "  %s_temp_path %s;\n", kind, filepath.Join(s.dir, kind))
	}
	text := fmt.Sprintf("daemon off;\nmaster_process off;\npid %s;\nerror_log stderr notice;\nevents {}\nhttp {\n  access_log off;\n%s  server {\n    %s\n  }\n}\n",
		filepath.Join(s.dir, "pid"), temp.String(), strings.Join(s.configLines, "\n    "))
	path := filepath.Join(s.dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}
