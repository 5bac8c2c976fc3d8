// Package sshd starts a real sshd for a test: on a free port, with new keys, as the current user, who need not be root.
package sshd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/testdata/ports"
)

// Server is a running sshd and what a client needs to log in to it.
type Server struct {
	Host       string // a numeric address
	Port       int
	User       string
	KeyFile    string // a private key that the server accepts
	KnownHosts string // holds its host key
	ConfigFile string // an ssh_config with KeyFile and KnownHosts, and without the user's own files

	t          testing.TB
	runsOn     Host // nil: this machine
	program    string
	dir        string
	extraLines []string
	process    *process.Child
	// listeningCh receives a value for each address on which the server begins to listen.
	listeningCh chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

// Host is another machine that a server can run on, such as a *netns.Host.
type Host interface {
	// Argv returns the command line that runs argv on the host.
	Argv(argv ...string) []string
}

// Start starts a server that accepts a new key. The lines are put before the other lines of its sshd_config. The server ends with the test.
func Start(t testing.TB, lines ...string) *Server {
	t.Helper()
	return newServer(t, lines).startWithNewKey()
}

// StartOn is Start on another machine. The server listens on addr, one of that machine's addresses.
func StartOn(t testing.TB, host Host, addr string, lines ...string) *Server {
	t.Helper()
	s := newServer(t, lines)
	s.runsOn, s.Host = host, addr
	return s.startWithNewKey()
}

// startWithNewKey starts a server that accepts a new key.
func (s *Server) startWithNewKey() *Server {
	s.t.Helper()
	s.KeyFile = s.makeKey("user")
	s.KnownHosts = filepath.Join(s.dir, "known_hosts")
	s.Authorize(s.KeyFile)
	s.start()
	s.writeKnownHosts()
	s.ConfigFile = s.WriteClientConfig()
	return s
}

// StartAnother starts a second server, which accepts the same key, and adds its host key to the same known hosts.
func (s *Server) StartAnother(lines ...string) *Server {
	s.t.Helper()
	return s.startWithSameKey(newServer(s.t, lines))
}

// StartAnotherOn is StartAnother on another machine. The server listens on addr, one of that machine's addresses.
func (s *Server) StartAnotherOn(host Host, addr string, lines ...string) *Server {
	s.t.Helper()
	other := newServer(s.t, lines)
	other.runsOn, other.Host = host, addr
	return s.startWithSameKey(other)
}

// startWithSameKey starts other with the key and the known hosts of s.
func (s *Server) startWithSameKey(other *Server) *Server {
	s.t.Helper()
	other.KeyFile, other.KnownHosts, other.ConfigFile = s.KeyFile, s.KnownHosts, s.ConfigFile
	other.Authorize(s.KeyFile)
	other.start()
	other.writeKnownHosts()
	return other
}

// newServer makes a server that has a port and a host key, and accepts no key yet. It skips the test if a program is missing.
func newServer(t testing.TB, extraLines []string) *Server {
	t.Helper()
	program, err := findProgram()
	if err != nil {
		t.Skip("sshd is missing (Debian: openssh-server)")
	}
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is missing (Debian: openssh-client)")
	}
	if os.Getuid() == 0 { // as root, sshd does not start without it
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("/run/sshd is missing: %v", err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Host: "127.0.0.1", Port: ports.FreePort(t), User: me.Username, t: t, program: program, dir: t.TempDir(), extraLines: extraLines}
	s.makeKey("host")
	t.Cleanup(s.Kill)
	return s
}

// findProgram returns the path of sshd. It looks beyond PATH: an ordinary user's seldom has the directories of system programs.
func findProgram() (string, error) {
	return process.LookPath("sshd", []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/usr/local/sbin:/sbin"}, "/")
}

// makeKey makes a key pair in the server's directory and returns the path of the private key.
func (s *Server) makeKey(name string) string {
	s.t.Helper()
	return NewKey(s.t, filepath.Join(s.dir, name), "")
}

// NewKey makes a key pair, path and path.pub, protected by passphrase unless that is empty, and returns path.
func NewKey(t testing.TB, path, passphrase string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return path
}

// Authorize makes the server accept a key; path is that of the private key.
func (s *Server) Authorize(path string) {
	s.t.Helper()
	s.appendToFile(filepath.Join(s.dir, "authorized_keys"), s.readFile(path+".pub"))
}

// RestrictKeys puts options, as "no-port-forwarding", before each authorized key. Without options it does nothing.
func (s *Server) RestrictKeys(options string) {
	s.t.Helper()
	if options == "" {
		return
	}
	path := filepath.Join(s.dir, "authorized_keys")
	keys := strings.Split(strings.TrimSpace(s.readFile(path)), "\n")
	if err := os.Remove(path); err != nil {
		s.t.Fatal(err)
	}
	s.appendToFile(path, options+" "+strings.Join(keys, "\n"+options+" ")+"\n")
}

// writeKnownHosts adds the host key to the known hosts.
func (s *Server) writeKnownHosts() {
	s.t.Helper()
	s.appendToFile(s.KnownHosts, fmt.Sprintf("[%s]:%d %s", s.Host, s.Port, s.readFile(filepath.Join(s.dir, "host.pub"))))
}

// NewHostKey restarts the server with another host key, which is not added to the known hosts.
func (s *Server) NewHostKey() {
	s.t.Helper()
	s.Kill()
	for _, name := range []string{"host", "host.pub"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.makeKey("host")
	s.start()
}

// TrustHostKey adds the present host key to the known hosts, as accepting it does.
func (s *Server) TrustHostKey() {
	s.t.Helper()
	s.writeKnownHosts()
}

// WriteClientConfig writes an ssh_config with lines before those of ConfigFile, and returns its path.
func (s *Server) WriteClientConfig(lines ...string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "ssh_config")
	s.appendToFile(path, strings.Join(append(lines,
		"Host *",
		"UserKnownHostsFile "+s.KnownHosts,
		"GlobalKnownHostsFile /dev/null",
		"IdentityFile "+s.KeyFile,
		"IdentityAgent none",
		"IdentitiesOnly yes",
		"",
	), "\n"))
	return path
}

func (s *Server) appendToFile(path, text string) {
	s.t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) readFile(path string) string {
	s.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// Addr returns Host:Port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Log returns what all starts of the server have printed.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// start starts sshd and returns when it listens.
func (s *Server) start() {
	s.t.Helper()
	s.listeningCh = make(chan struct{}, 8)
	listeningCh := s.listeningCh
	argv := []string{s.program, "-D", "-e", "-f", s.writeServerConfig()}
	if s.runsOn != nil {
		argv = s.runsOn.Argv(argv...)
	}
	sshd, err := process.Start(process.Command{
		Argv: argv,
		Dir:  s.dir,
		Env:  os.Environ(),
		OnLine: func(_ process.Stream, line string) {
			s.mu.Lock()
			s.log.WriteString(line + "\n")
			s.mu.Unlock()
			switch {
			case strings.HasPrefix(line, "Server listening on"):
				listeningCh <- struct{}{}
			case strings.HasPrefix(line, "Received SIGHUP"):
				for len(listeningCh) > 0 { // of another address, before
					<-listeningCh
				}
			}
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = sshd
	s.waitListening()
}

// waitListening returns when the server begins to listen.
func (s *Server) waitListening() {
	s.t.Helper()
	select {
	case <-s.listeningCh:
	case <-s.process.Done():
		s.t.Fatalf("sshd ended: %s", s.Log())
	case <-time.After(60 * time.Second):
		s.t.Fatalf("sshd does not listen: %s", s.Log())
	}
}

// writeServerConfig writes sshd_config and returns its path.
func (s *Server) writeServerConfig() string {
	s.t.Helper()
	path := filepath.Join(s.dir, "sshd_config")
	_ = os.Remove(path)
	s.appendToFile(path, strings.Join(append(slices.Clone(s.extraLines),
		"ListenAddress "+s.Addr(),
		"HostKey "+filepath.Join(s.dir, "host"),
		"AuthorizedKeysFile "+filepath.Join(s.dir, "authorized_keys"),
		"PidFile none",
		"StrictModes no",
		"UsePAM no",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"MaxStartups 100",
		"",
	), "\n"))
	return path
}

// Reconfigure replaces the lines given to Start, and has the server read its sshd_config again (SIGHUP). Logins go on as they are.
func (s *Server) Reconfigure(lines ...string) {
	s.t.Helper()
	s.extraLines = lines
	s.writeServerConfig()
	if err := syscall.Kill(s.process.Pid(), syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	s.waitListening()
}

// Restart kills the server, if it runs, and starts it again with the same port and keys.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.start()
}
