package redis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/probe/redis"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/probetest"
	server "github.com/localport-sh/localport/testdata/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck_ReportsWrongPasswords(t *testing.T) {
	s := server.Start(t, server.Options{Password: "hunter2", User: "app", UserPassword: "s3cret"})
	for name, settings := range map[string]project.Settings{
		"the default user": {"password": "hunter2"},
		"a user":           {"user": "app", "password": "s3cret"},
		"a database":       {"password": "hunter2", "database": 3},
	} {
		if err := probetest.Check(t, redis.Type, s.Addr(), settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	probetest.RequireFailure(t, probetest.Check(t, redis.Type, s.Addr(), nil), "NOAUTH Authentication required", "health_check.password")
	err := probetest.Check(t, redis.Type, s.Addr(), project.Settings{"password": "wrong and secret"})
	probetest.RequireFailure(t, err, "WRONGPASS")
	probetest.RequireHidden(t, err, "wrong and secret")
	probetest.RequireFailure(t, probetest.Check(t, redis.Type, s.Addr(), project.Settings{"password": "hunter2", "database": 99}), "DB index is out of range")
}

func TestCheck_VerifiesTLS(t *testing.T) {
	s := server.Start(t, server.Options{TLS: true})
	if err := probetest.Check(t, redis.Type, s.Addr(), project.Settings{"tls": true, "ca_file": s.CAFile}); err != nil {
		t.Error(err)
	}
	probetest.RequireFailure(t, probetest.Check(t, redis.Type, s.Addr(), project.Settings{"tls": true}), "unknown authority", "ca_file")
	if err := probetest.Check(t, redis.Type, s.Addr(), nil); err == nil {
		t.Error("plain text to a server with TLS passes the check")
	}
}

func TestCheck_ReportsAServerThatIsNotRedis(t *testing.T) {
	probetest.RequireFailure(t, probetest.Check(t, redis.Type, probetest.StartGreetingServer(t, "SSH-2.0-OpenSSH_9.2\r\n"), nil), "not a Redis reply", "SSH-2.0")
	if err := probetest.Check(t, redis.Type, probetest.StartClosingServer(t), nil); err == nil {
		t.Error("a server that hangs up passes the check")
	}
	err := probetest.CheckThrough(t, redis.Type, probetest.Dialer{To: probetest.StartSilentServer(t)}, nil, 100*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
}

func TestCheck_DetectsStopAndStart(t *testing.T) {
	s := server.Start(t, server.Options{})
	s.Stop()
	if err := probetest.Check(t, redis.Type, s.Addr(), nil); err == nil {
		t.Error("a stopped server passes the check")
	}
	s.Restart()
	if err := probetest.Check(t, redis.Type, s.Addr(), nil); err != nil {
		t.Error(err)
	}
}
