// Package mosquitto starts a real MQTT broker, Eclipse Mosquitto, for a test.
package mosquitto

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Options say what clients need.
type Options struct {
	Password       string // of the user "app"; "": there is no user
	AllowAnonymous bool   // accept clients that name no user
	TLS            bool   // TLS instead of plain text
}

// Server is a running broker. It stores nothing on disk: a restart empties it.
type Server struct {
	*daemon.Server
	CAFile string // the authority of its certificate, for 127.0.0.1 and localhost; "" without TLS
}

// Start starts a broker, which ends with the test.
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

// writePasswordFile writes the file with the user's password and returns its path.
func writePasswordFile(t testing.TB, dir, password string) string {
	t.Helper()
	file := filepath.Join(dir, "passwords")
	daemon.Run(t, dir, "", daemon.FindProgram(t, "mosquitto_passwd", "mosquitto"), "-b", "-c", file, "app", password)
	return file
}
