// Package mariadb starts a real MariaDB server for one test.
package mariadb

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Options say what the server asks of its clients.
type Options struct {
	Password       string // of the user "app"; without it that user has none
	MaxConnections int    // besides one for root; at least 10, fewer are taken as 10; the server's default if 0
	// MaxConnectErrors is how many broken handshakes in a row the server takes from an address before it blocks that;
	// its default if 0. It does not count those from 127.0.0.1: dial from another local address, such as 127.0.0.2,
	// whose name it then looks up.
	MaxConnectErrors int
	TLS              bool // it has TLS too; nobody must use it
}

// Server is a running MariaDB with the user "app", who may all in the database of that name. Root gets in through the
// socket only, without a password.
type Server struct {
	*daemon.Server
	Socket string
	CAFile string // the authority of its certificate, for 127.0.0.1 and localhost; "" without TLS
}

// Start starts a server. It ends with the test.
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

// smallFlags keeps the files and the memory small, and does not wait for the disk.
var smallFlags = []string{
	"--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0",
	"--innodb-flush-method=nosync", "--innodb-data-file-path=ibdata1:4M:autoextend",
	"--innodb-temp-data-file-path=ibtmp1:1M:autoextend", "--aria-log-file-size=8M",
}

var dataTemplate daemon.DirTemplate

// initDataDir makes the data directory, with root as its only user.
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

// accountStatements are the statements that the server runs before it listens, at every start: each on a line of its own.
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
	return append(flags, "--skip-name-resolve") // with which no errors are counted
}
