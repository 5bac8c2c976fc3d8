// Package mariadb starts a real MariaDB server for a test.
package mariadb

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Options say what clients need, and the server's limits.
type Options struct {
	Password       string // of the user "app"; "": it has none
	MaxConnections int    // without one more for root; less than 10 counts as 10; 0: the server's default
	// MaxConnectErrors is the number of broken handshakes in a row after which the server blocks an address; 0: its default. It
	// does not count those from 127.0.0.1: dial from another loopback address, such as 127.0.0.2, whose name it then looks up.
	MaxConnectErrors int
	TLS              bool // clients may use TLS, and need not
}

// Server is a running MariaDB with the user "app", who has all permissions in the database of that name. Root can log in through the
// socket only, without a password.
type Server struct {
	*daemon.Server
	Socket string
	CAFile string // the authority of its certificate, for 127.0.0.1 and localhost; "" without TLS
}

// Start starts a server, which ends with the test.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	program := daemon.FindProgram(t, "mariadbd", "mariadb-server")
	dir := daemon.NewDir(t, "mariadb")
	data := initDataDir(t, dir)
	s := &Server{Socket: filepath.Join(dir, "socket")}
	argv := append([]string{
		program, "--no-defaults", "--datadir=" + data, "--socket=" + s.Socket, "--pid-file=" + filepath.Join(dir, "pid"),
		"--init-file=" + daemon.Write(t, dir, "init.sql", accountStatements(options.Password)...),
		"--skip-networking=0", "--bind-address=127.0.0.1",
	}, append(smallFlags, options.flags()...)...)
	if options.TLS {
		pair := daemon.IssueCertificate(t, dir)
		s.CAFile = pair.CAFile
		argv = append(argv, "--ssl-ca="+pair.CAFile, "--ssl-cert="+pair.CertFile, "--ssl-key="+pair.KeyFile)
	}
	s.Server = daemon.Start(t, daemon.Spec{
		Dir:       dir,
		Argv:      func(port int) []string { return append(argv, fmt.Sprintf("--port=%d", port)) },
		ReadyText: "ready for connections",
	})
	return s
}

// smallFlags keep files and memory small, and do not wait for the disk.
var smallFlags = []string{
	"--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0",
	"--innodb-flush-method=nosync", "--innodb-data-file-path=ibdata1:4M:autoextend",
	"--innodb-temp-data-file-path=ibtmp1:1M:autoextend", "--aria-log-file-size=8M",
}

var dataTemplate daemon.DirTemplate

// initDataDir makes the data directory, with root as its only user, and returns its path.
func initDataDir(t testing.TB, dir string) string {
	t.Helper()
	install := daemon.FindProgram(t, "mariadb-install-db", "mariadb-server")
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	daemon.Chown(t, data)
	dataTemplate.Fill(t, data, func() {
		daemon.Run(t, dir, "", append([]string{
			install, "--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db",
			"--skip-name-resolve",
		}, smallFlags...)...)
	})
	return data
}

// accountStatements returns the SQL that the server runs before it listens, at every start: one statement a line.
func accountStatements(password string) []string {
	quoted := strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(password)
	return []string{
		"DELETE FROM mysql.global_priv WHERE User NOT IN ('mariadb.sys', 'app') AND NOT (User = 'root' AND Host = 'localhost');",
		"FLUSH PRIVILEGES;",
		"CREATE DATABASE IF NOT EXISTS app;",
		"CREATE OR REPLACE USER app@'%' IDENTIFIED BY '" + quoted + "';",
		"GRANT ALL ON app.* TO app@'%';",
	}
}

func (o Options) flags() []string {
	var flags []string
	if o.MaxConnections > 0 {
		flags = append(flags, fmt.Sprintf("--max-connections=%d", o.MaxConnections))
	}
	if o.MaxConnectErrors > 0 {
		return append(flags, fmt.Sprintf("--max-connect-errors=%d", o.MaxConnectErrors))
	}
	return append(flags, "--skip-name-resolve") // with it, the server would not count broken handshakes
}
