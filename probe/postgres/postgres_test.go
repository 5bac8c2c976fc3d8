package postgres_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/postgres"
	"github.com/localport-sh/localport/project"
	server "github.com/localport-sh/localport/testdata/postgres"
	"github.com/localport-sh/localport/testdata/probetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "correct horse 'battery' \\staple"

func app(more project.Settings) project.Settings {
	s := project.Settings{"user": "app", "database": "app", "password": secret}
	maps.Copy(s, more)
	return s
}

func TestCheck_SupportsEveryAuthMethod(t *testing.T) {
	for _, auth := range []string{"scram-sha-256", "md5", "password"} {
		t.Run(auth, func(t *testing.T) {
			s := server.Start(t, server.Options{Password: secret, Auth: auth})
			if err := probetest.Check(t, postgres.Type, s.Addr(), app(nil)); err != nil {
				t.Error(err)
			}
			err := probetest.Check(t, postgres.Type, s.Addr(), app(project.Settings{"password": "wrong and secret"}))
			probetest.RequireFailure(t, err, `password authentication failed for user "app"`, "28P01", "health_check.password")
			probetest.RequireHidden(t, err, "wrong and secret")
			err = probetest.Check(t, postgres.Type, s.Addr(), project.Settings{"user": "app", "database": "app"})
			probetest.RequireFailure(t, err, "set health_check.password")
			if log := s.Log(); strings.Contains(log, "unexpected EOF") {
				t.Errorf("the server's log complains of the check:\n%s", log)
			}
		})
	}
}

func TestCheck_ReportsTheServersError(t *testing.T) {
	s := server.Start(t, server.Options{Password: secret, MaxConnections: 5})
	probetest.RequireFailure(t, probetest.Check(t, postgres.Type, s.Addr(), app(project.Settings{"database": "nowhere"})),
		`database "nowhere" does not exist`, "3D000", "health_check.database")
	probetest.RequireFailure(t, probetest.Check(t, postgres.Type, s.Addr(), app(project.Settings{"query": "SELECT * FROM nothing"})),
		`relation "nothing" does not exist`, "42P01")
	probetest.RequireFailure(t, probetest.Check(t, postgres.Type, s.Addr(), app(project.Settings{"sslmode": "require"})), "the server does not support TLS", "sslmode")
	if err := probetest.Check(t, postgres.Type, s.Addr(), app(project.Settings{"query": "SELECT 1; SELECT 2"})); err != nil {
		t.Errorf("two statements: %v", err)
	}
}

func TestCheck_DetectsStopAndStart(t *testing.T) {
	s := server.Start(t, server.Options{Password: secret})
	s.Stop()
	if err := probetest.Check(t, postgres.Type, s.Addr(), app(nil)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("while it is stopped: %v", err)
	}
	s.Restart()
	if err := probetest.Check(t, postgres.Type, s.Addr(), app(nil)); err != nil {
		t.Errorf("started again: %v", err)
	}
	standby := s.StartStandby(t)
	probetest.RequireFailure(t, probetest.Check(t, postgres.Type, standby.Addr(), app(nil)), "57P03", "the database system is", "the server is starting")
}

func TestCheck_VerifiesTLSAccordingToSSLMode(t *testing.T) {
	s := server.Start(t, server.Options{Password: secret, TLS: true})
	for name, c := range map[string]struct {
		given project.Settings
		want  string
	}{
		"prefer":                       {project.Settings{}, ""},
		"require":                      {project.Settings{"sslmode": "require"}, ""},
		"verify-ca with the authority": {project.Settings{"sslmode": "verify-ca", "ca_file": s.CAFile}, ""},
		"verify-ca without":            {project.Settings{"sslmode": "verify-ca"}, "unknown authority"},
		"verify-full":                  {project.Settings{"sslmode": "verify-full", "ca_file": s.CAFile, "server_name": "localhost"}, ""},
		"verify-full, another name":    {project.Settings{"sslmode": "verify-full", "ca_file": s.CAFile, "server_name": "db.internal"}, "not db.internal"},
	} {
		t.Run(name, func(t *testing.T) {
			err := probetest.Check(t, postgres.Type, s.Addr(), app(c.given))
			if c.want == "" && err != nil {
				t.Error(err)
			}
			if c.want != "" {
				probetest.RequireFailure(t, err, c.want)
			}
		})
	}
	if _, err := postgres.Type.New(project.Settings{"sslmode": "verify-full"}); err == nil || !strings.Contains(err.Error(), "server_name") {
		t.Errorf("verify-full without a name: %v", err)
	}
}

func TestCheck_IgnoresTheEnvironment(t *testing.T) {
	s := server.Start(t, server.Options{Password: secret})
	for name, value := range map[string]string{
		"PGHOST": "nowhere", "PGPORT": "1", "PGUSER": "nobody", "PGPASSWORD": "wrong", "PGDATABASE": "nowhere", "PGSSLMODE": "require",
		"PGSERVICE": "nothing", "PGSERVICEFILE": "/nowhere", "PGPASSFILE": "/nowhere", "PGOPTIONS": "--nonsense", "PGCONNECT_TIMEOUT": "nonsense",
		"PGTARGETSESSIONATTRS": "read-only", "PGSSLROOTCERT": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	if err := probetest.Check(t, postgres.Type, s.Addr(), app(nil)); err != nil {
		t.Error(err)
	}
}

func TestCheck_EndsWithItsTimeout(t *testing.T) {
	for name, addr := range map[string]string{"silent": probetest.StartSilentServer(t), "half an answer": probetest.StartGreetingServer(t, "R\x00\x00")} {
		err := probetest.CheckThrough(t, postgres.Type, probetest.Dialer{To: addr}, app(nil), 200*time.Millisecond)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := probetest.Check(t, postgres.Type, probetest.StartClosingServer(t), app(nil))
	if failure := (*probe.Failure)(nil); err == nil || errors.As(err, &failure) {
		t.Errorf("a server that hangs up: %v", err)
	}
	if err := probetest.Check(t, postgres.Type, probetest.StartGreetingServer(t, "SSH-2.0-OpenSSH_9.2\r\n"), app(nil)); err == nil {
		t.Error("an ssh server passes the check")
	}
}
