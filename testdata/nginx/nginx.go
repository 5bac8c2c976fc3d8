// Package nginx starts a real nginx for one test: one process, on a port of its own, as the current user, who need not
// be root.
package nginx

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/process"
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

// Start starts a server with these lines in its server block, and returns when it listens. It ends with the test.
func Start(t testing.TB, lines ...string) *Server {
	t.Helper()
	return start(t, "", lines)
}

// StartTLS is Start of a server that speaks TLS, with the certificate and key in these files.
func StartTLS(t testing.TB, certFile, keyFile string, lines ...string) *Server {
	t.Helper()
	return start(t, " ssl", append(lines, "ssl_certificate "+certFile+";", "ssl_certificate_key "+keyFile+";"))
}

func start(t testing.TB, how string, lines []string) *Server {
	t.Helper()
	path := "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/usr/local/sbin:/sbin" // seldom on an ordinary user's
	program, err := process.LookPath("nginx", []string{path}, "/")
	if err != nil {
		t.Skip("nginx is missing (Debian: nginx-light)")
	}
	s := &Server{Addr: freeAddr(t), t: t, program: program, dir: t.TempDir()}
	s.Root = filepath.Join(s.dir, "root")
	s.configLines = append([]string{"listen " + s.Addr + how + ";", "root " + s.Root + ";"}, lines...)
	if err := os.Mkdir(s.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.Start()
	return s
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start starts a stopped server again, at the same address, and returns when it listens.
func (s *Server) Start() {
	s.t.Helper()
	listens := make(chan struct{}, 1)
	nginx, err := process.Start(process.Command{
		Argv: []string{s.program, "-p", s.dir, "-e", "stderr", "-c", s.writeConfig()},
		Dir:  s.dir,
		Env:  append(os.Environ(), "LOCALPORT_TEST_SERVER=nginx"), // .ci/leftovers looks for it
		OnLine: func(_ process.Stream, line string) {
			s.mu.Lock()
			s.log.WriteString(line + "\n")
			s.mu.Unlock()
			if strings.Contains(line, `using the "`) { // its event loop begins, and its sockets are open
				listens <- struct{}{}
			}
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = nginx
	select {
	case <-listens:
	case <-nginx.Done():
		s.t.Fatalf("nginx ended: %s", s.Log())
	case <-time.After(30 * time.Second):
		s.t.Fatalf("nginx does not listen: %s", s.Log())
	}
}

// Stop ends the server. It may be called more than once.
func (s *Server) Stop() {
	if s.process != nil {
		s.process.Stop(2 * time.Second)
	}
}

// Log is what the server has said so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// writeConfig writes nginx.conf and returns its path. Without a master nothing survives the one process.
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
