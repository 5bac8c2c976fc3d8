// Package postgres starts a real PostgreSQL server for a test.
package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Options say what clients need, and the server's limit.
type Options struct {
	Password       string // of the user "app"; "": it has none
	Auth           string // "scram-sha-256", "md5", "password" or "trust"; "": the first if there is a password, else the last
	TLS            bool   // clients may use TLS, and need not
	MaxConnections int    // none of them is reserved for the superuser; 0: 100
}

// Server is a running PostgreSQL with the user "app", who is no superuser, and a database of that name.
type Server struct {
	*daemon.Server
	CAFile string // the authority of its certificate, for 127.0.0.1 and localhost; "" without TLS

	options Options
}

// Start starts a server, which ends with the test.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	return start(t, options, "ready to accept connections")
}

// StartStandby starts another server with the same options, which is in recovery and refuses every
// connection with SQLSTATE 57P03. It ends with the test.
func (s *Server) StartStandby(t testing.TB) *Server {
	t.Helper()
	return start(t, s.options, "entering standby mode", "hot_standby=off")
}

// start starts a server and returns when it has printed readyText. With standbySettings the server is a standby.
func start(t testing.TB, options Options, readyText string, standbySettings ...string) *Server {
	t.Helper()
	program := findProgram(t, "postgres")
	if options.Auth == "" {
		options.Auth = "trust"
		if options.Password != "" {
			options.Auth = "scram-sha-256"
		}
	}
	dir := daemon.NewDir(t, "postgres")
	s := &Server{options: options}
	s.initDataDir(t, program, dir)
	data := filepath.Join(dir, "data")
	if standbySettings != nil {
		daemon.Write(t, data, "standby.signal")
	}
	settings := append(standbySettings, s.settings(t, dir)...)
	s.Server = daemon.Start(t, daemon.Spec{
		Dir: dir,
		Argv: func(port int) []string {
			return append([]string{program, "-D", data, "-p", fmt.Sprint(port)}, settingFlags(settings)...)
		},
		ReadyText:    readyText,
		StopSignal:   syscall.SIGINT,  // a fast shutdown, which does not wait for clients
		OrphanSignal: syscall.SIGQUIT, // an immediate shutdown, which ends its children and frees its shared memory
	})
	return s
}

// findProgram returns the path of a program of the server. Debian's are in no directory of PATH.
func findProgram(t testing.TB, program string) string {
	t.Helper()
	return daemon.FindProgram(t, program, "postgresql", "/usr/lib/postgresql/*/bin")
}

var dataTemplate daemon.DirTemplate

// initDataDir makes the data directory, with the user "app".
func (s *Server) initDataDir(t testing.TB, program, dir string) {
	t.Helper()
	initdb := findProgram(t, "initdb")
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	daemon.Chown(t, data)
	runSQL := func(sql string) {
		t.Helper()
		argv := append([]string{program, "--single", "-D", data}, settingFlags([]string{s.passwordEncryption(), "fsync=off"})...)
		if out := daemon.Run(t, dir, sql, append(argv, "postgres")...); strings.Contains(out, "ERROR") {
			t.Fatalf("%s: %s", sql, out)
		}
	}
	dataTemplate.Fill(t, data, func() {
		daemon.Run(t, dir, "", initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N", "--wal-segsize=1")
		runSQL("CREATE ROLE app LOGIN\nCREATE DATABASE app OWNER app\n")
	})
	if s.options.Password != "" {
		runSQL("ALTER ROLE app PASSWORD '" + strings.ReplaceAll(s.options.Password, "'", "''") + "'\n")
	}
	daemon.Write(t, data, "pg_hba.conf", "host all all 127.0.0.1/32 "+s.options.Auth)
}

// passwordEncryption returns the setting for how passwords are stored: one stored as scram cannot be used for md5.
func (s *Server) passwordEncryption() string {
	if s.options.Auth == "md5" {
		return "password_encryption=md5"
	}
	return "password_encryption=scram-sha-256"
}

func (s *Server) settings(t testing.TB, dir string) []string {
	t.Helper()
	settings := []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", s.passwordEncryption(), "fsync=off", "shared_buffers=1MB",
		"dynamic_shared_memory_type=mmap", // files in its data directory; those in /dev/shm would stay after a crash
		"superuser_reserved_connections=0", "max_wal_senders=0", "log_connections=on", "logging_collector=off",
		"log_timezone=UTC",
	}
	if s.options.MaxConnections > 0 {
		settings = append(settings, fmt.Sprintf("max_connections=%d", s.options.MaxConnections))
	}
	if s.options.TLS {
		pair := daemon.IssueCertificate(t, dir)
		s.CAFile = pair.CAFile
		settings = append(settings, "ssl=on", "ssl_cert_file="+pair.CertFile, "ssl_key_file="+pair.KeyFile)
	}
	return settings
}

func settingFlags(settings []string) []string {
	var flags []string
	for _, setting := range settings {
		flags = append(flags, "-c", setting)
	}
	return flags
}
