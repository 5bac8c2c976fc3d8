// Package redis starts a real Redis server for a test.
package redis

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Options say what clients need.
type Options struct {
	Password string // of the default user; "": none is needed

	User         string // a second user; "": there is none
	UserPassword string
	UserRules    string // permissions of the second user, as in ACL SETUSER; "": all

	TLS bool // TLS instead of plain text
}

// Server is a running Redis. It stores nothing on disk: a restart empties it.
type Server struct {
	*daemon.Server
	CAFile string // the authority of its certificate, for 127.0.0.1 and localhost; "" without TLS
}

// Start starts a server, which ends with the test.
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

// accessLines returns the lines of redis.conf with users and passwords.
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
