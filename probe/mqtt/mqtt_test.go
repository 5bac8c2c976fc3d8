package mqtt_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/probe/mqtt"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/mosquitto"
	"github.com/localport-sh/localport/testdata/probetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck_SupportsBothVersionsAndReportsRefusedLogins(t *testing.T) {
	s := mosquitto.Start(t, mosquitto.Options{Password: "s3cret"})
	for _, version := range []string{"3.1.1", "5"} {
		settings := project.Settings{"user": "app", "password": "s3cret", "version": version}
		if err := probetest.Check(t, mqtt.Type, s.Addr(), settings); err != nil {
			t.Errorf("version %s: %v", version, err)
		}
		settings["password"] = "wrong and secret"
		err := probetest.Check(t, mqtt.Type, s.Addr(), settings)
		probetest.RequireFailure(t, err, "not authorized", "health_check.password")
		probetest.RequireHidden(t, err, "wrong and secret")
		probetest.RequireFailure(t, probetest.Check(t, mqtt.Type, s.Addr(), project.Settings{"version": version}), "not authorized")
	}
}

func TestCheck_SucceedsWithoutLoginAndOverTLS(t *testing.T) {
	s := mosquitto.Start(t, mosquitto.Options{AllowAnonymous: true, TLS: true})
	if err := probetest.Check(t, mqtt.Type, s.Addr(), project.Settings{"tls": true, "ca_file": s.CAFile}); err != nil {
		t.Error(err)
	}
	probetest.RequireFailure(t, probetest.Check(t, mqtt.Type, s.Addr(), project.Settings{"tls": true}), "unknown authority")
	s.Stop()
	if err := probetest.Check(t, mqtt.Type, s.Addr(), nil); err == nil {
		t.Error("a stopped broker passes the check")
	}
}

func TestCheck_ReportsAServerThatIsNotABroker(t *testing.T) {
	probetest.RequireFailure(t, probetest.Check(t, mqtt.Type, probetest.StartGreetingServer(t, "SSH-2.0-OpenSSH_9.2\r\n"), nil), "not an MQTT packet")
	if err := probetest.Check(t, mqtt.Type, probetest.StartClosingServer(t), nil); err == nil {
		t.Error("a server that hangs up passes the check")
	}
	err := probetest.CheckThrough(t, mqtt.Type, probetest.Dialer{To: probetest.StartSilentServer(t)}, nil, 100*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
}
