// Package mosquitto starts a real MQTT broker, Eclipse Mosquitto, for one test.
package mosquitto

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Options say what the broker asks of its clients.
type Options struct {
	Password       string // of the user "app"; without it there is no user
	AllowAnonymous bool   // who names no user is let in
	TLS            bool   // instead of plain text
}

// Server is a running broker. It keeps nothing: a restart empties it.
type Server struct {
	*daemon.Server
	CAFile string // the authority of its certificate, for 127.0.0.1 and localhost; "" without TLS
}

// Start starts a broker. It ends with the test.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	program := daemon.FindProgram(t, "mosquitto", "mosquitto")
	dir := daemon.NewDir(t, "mosquitto")
	s := &Server{}
	lines := []string{fmt.Sprint("allow_anonymous ", options.AllowAnonymous), "persistence false", "log_dest stderr", "log_type all"}
	if options.Password != "" {
		lines = append(lines, "password_file "+writePasswordFile(t, dir, options.Password))
	}
	var listener []string
	if options.TLS {
		pair := daemon.IssueCertificate(t, dir)
		s.CAFile = pair.CAFile
		listener = []string{"cafile " + pair.CAFile, "certfile " + pair.CertFile, "keyfile " + pair.KeyFile}
	}
	s.Server = daemon.Start(t, daemon.Spec{
		Dir: dir,
		Argv: func(port int) []string {
			all := append(lines, append([]string{"listener " + strconv.Itoa(port) + " 127.0.0.1"}, listener...)...)
			return []string{program, "-c", daemon.Write(t, dir, "mosquitto.conf", all...)}
		},
		ReadyText: " running",
	})
	return s
}

// writePasswordFile makes the file with the user's password.
func writePasswordFile(t testing.TB, dir, password string) string {
	t.Helper()
	file := filepath.Join(dir, "passwords")
	daemon.Run(t, dir, "", daemon.FindProgram(t, "mosquitto_passwd", "mosquitto"), "-b", "-c", file, "app", password)
	return file
}
