package mysql_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/probe/mysql"
	"github.com/localport-sh/localport/project"
	server "github.com/localport-sh/localport/testdata/mariadb"
	"github.com/localport-sh/localport/testdata/probetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func app(more project.Settings) project.Settings {
	s := project.Settings{"user": "app", "password": "s3cret", "database": "app"}
	maps.Copy(s, more)
	return s
}

func TestCheck_ReportsTheServersLoginError(t *testing.T) {
	s := server.Start(t, server.Options{Password: "s3cret"})
	for name, settings := range map[string]project.Settings{
		"ping": app(nil), "query": app(project.Settings{"query": "SELECT 1"}), "without a user": nil,
	} {
		if err := probetest.Check(t, mysql.Type, s.Addr(), settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := probetest.Check(t, mysql.Type, s.Addr(), app(project.Settings{"password": "wrong and secret"}))
	probetest.RequireFailure(t, err, "Access denied for user 'app'", "1045", "health_check.password")
	probetest.RequireHidden(t, err, "wrong and secret")
	probetest.RequireFailure(t, probetest.Check(t, mysql.Type, s.Addr(), app(project.Settings{"query": "SELECT * FROM nothing"})), "nothing' doesn't exist")
	probetest.RequireFailure(t, probetest.Check(t, mysql.Type, s.Addr(), app(project.Settings{"tls": true})), "the server does not support TLS")
	s.Stop()
	if err := probetest.Check(t, mysql.Type, s.Addr(), app(nil)); err == nil {
		t.Error("a stopped server passes the check")
	}
	s.Restart()
	if err := probetest.Check(t, mysql.Type, s.Addr(), app(nil)); err != nil {
		t.Errorf("started again: %v", err)
	}
}

func TestCheck_NeverGetsTheHostBlocked(t *testing.T) {
	s := server.Start(t, server.Options{Password: "s3cret", MaxConnectErrors: 3})
	// From here errors count; from 127.0.0.1 the server never counts them.
	dialer := probetest.Dialer{To: s.Addr(), From: "127.0.0.2"}
	for i := range 20 {
		if err := probetest.CheckThrough(t, mysql.Type, dialer, nil, 30*time.Second); err != nil {
			t.Fatalf("check %d without a user: %v", i, err)
		}
	}
	if err := probetest.CheckThrough(t, mysql.Type, dialer, app(nil), 30*time.Second); err != nil {
		t.Errorf("after them: %v", err)
	}
}

func TestCheck_VerifiesTLS(t *testing.T) {
	s := server.Start(t, server.Options{Password: "s3cret", TLS: true})
	if err := probetest.Check(t, mysql.Type, s.Addr(), app(project.Settings{"tls": true, "ca_file": s.CAFile})); err != nil {
		t.Error(err)
	}
	probetest.RequireFailure(t, probetest.Check(t, mysql.Type, s.Addr(), app(project.Settings{"tls": true})), "unknown authority", "ca_file")
}

func TestCheck_EndsWithItsTimeout(t *testing.T) {
	err := probetest.CheckThrough(t, mysql.Type, probetest.Dialer{To: probetest.StartSilentServer(t)}, app(nil), 100*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
	if err := probetest.Check(t, mysql.Type, probetest.StartClosingServer(t), app(nil)); err == nil {
		t.Error("a server that hangs up passes the check")
	}
	ssh := probetest.Dialer{To: probetest.StartGreetingServer(t, "SSH-2.0-OpenSSH_9.2\r\n")} // its first letters are a length to MySQL
	if err := probetest.CheckThrough(t, mysql.Type, ssh, app(nil), 100*time.Millisecond); err == nil {
		t.Error("an ssh server passes the check")
	}
}
