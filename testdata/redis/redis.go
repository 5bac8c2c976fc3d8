// Package redis starts a real Redis server for one test.
package redis

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Options say what the server asks of its clients.
type Options struct {
	Password string // of the default user; without it that user needs none

	User         string // a second user, if not ""
	UserPassword string
	UserRules    string // what that user may, as in ACL SETUSER; everything if ""

	TLS bool // instead of plain text
}

// Server is a running Redis. It keeps nothing: a restart empties it.
type Server struct {
	*daemon.Server
	CAFile string // the authority of its certificate, for 127.0.0.1 and localhost; "" without TLS
}

// Start starts a server. It ends with the test.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	program := daemon.FindProgram(t, "redis-server", "redis-server")
	dir := daemon.NewDir(t, "redis")
	lines := append(options.accessLines(), "bind 127.0.0.1", `save ""`, "appendonly no", "daemonize no", "dir "+dir)
	s := &Server{}
	port := "--port"
	if options.TLS {
		pair := daemon.IssueCertificate(t, dir)
		s.CAFile = pair.CAFile
		port = "--tls-port"
		lines = append(lines, "port 0", "tls-auth-clients no", "tls-ca-cert-file "+pair.CAFile,
			"tls-cert-file "+pair.CertFile, "tls-key-file "+pair.KeyFile)
	}
	config := daemon.Write(t, dir, "redis.conf", lines...)
	s.Server = daemon.Start(t, daemon.Spec{
		Dir:       dir,
		Argv:      func(n int) []string { return []string{program, config, port, strconv.Itoa(n)} },
		ReadyText: "Ready to accept connections",
	})
	return s
}

// accessLines are the lines that say who may do what.
func (o Options) accessLines() []string {
	var lines []string
	if o.Password != "" {
		lines = append(lines, "requirepass "+strconv.Quote(o.Password))
	}
	if o.User != "" {
		rules := o.UserRules
		if rules == "" {
			rules = "~* &* +@all"
		}
		lines = append(lines, fmt.Sprintf("user %s on #%x %s", o.User, sha256.Sum256([]byte(o.UserPassword)), rules))
	}
	return lines
}
