package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/kafka"
	"github.com/localport-sh/localport/project"
	broker "github.com/localport-sh/localport/testdata/kafka"
	"github.com/localport-sh/localport/testdata/probetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// forwardedDialer is a dialer to a broker whose service listens on an address of this machine.
type forwardedDialer struct {
	probetest.Dialer
	local string
}

func (f forwardedDialer) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort(f.local) }

// TestCheck_ReportsTheStateOfARealBroker has one broker for all its parts: it takes seconds to start.
func TestCheck_ReportsTheStateOfARealBroker(t *testing.T) {
	s := broker.Start(t)
	login := func(mechanism, password string) project.Settings {
		return project.Settings{"sasl": mechanism, "user": broker.User, "password": password}
	}
	t.Run("healthy", func(t *testing.T) {
		if err := probetest.Check(t, kafka.Type, s.Addr(), nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("logins", func(t *testing.T) {
		for _, mechanism := range []string{"plain", "scram-sha-256"} {
			if err := probetest.Check(t, kafka.Type, s.SASLAddr, login(mechanism, broker.Password)); err != nil {
				t.Errorf("%s: %v", mechanism, err)
			}
			err := probetest.Check(t, kafka.Type, s.SASLAddr, login(mechanism, "wrong and secret"))
			probetest.RequireFailure(t, err, "SASL_AUTHENTICATION_FAILED", "health_check.password")
			probetest.RequireHidden(t, err, "wrong and secret")
		}
		probetest.RequireFailure(t, probetest.Check(t, kafka.Type, s.SASLAddr, login("scram-sha-512", broker.Password)), "does not support SASL mechanism SCRAM-SHA-512", "PLAIN, SCRAM-SHA-256")
		probetest.RequireFailure(t, probetest.Check(t, kafka.Type, s.SASLAddr, nil), "health_check.sasl")
		probetest.RequireFailure(t, probetest.Check(t, kafka.Type, s.Addr(), login("plain", broker.Password)), "does not accept logins")
	})
	t.Run("TLS", func(t *testing.T) {
		if err := probetest.Check(t, kafka.Type, s.TLSAddr, project.Settings{"tls": true, "ca_file": s.CAFile}); err != nil {
			t.Error(err)
		}
		probetest.RequireFailure(t, probetest.Check(t, kafka.Type, s.TLSAddr, project.Settings{"tls": true}), "unknown authority", "ca_file")
		if err := probetest.Check(t, kafka.Type, s.TLSAddr, nil); err == nil {
			t.Error("plain text to a listener with TLS passes the check")
		} else if failure, ok := errors.AsType[*probe.Failure](err); ok {
			probetest.RequireFailure(t, failure, "tls = true")
		} else if !strings.Contains(err.Error(), "tls = true") {
			t.Errorf("plain text to a listener with TLS: %v", err)
		}
		if err := probetest.Check(t, kafka.Type, s.Addr(), project.Settings{"tls": true}); err == nil {
			t.Error("TLS to a listener without passes the check")
		}
	})
	t.Run("advertised addresses", func(t *testing.T) {
		dialer := forwardedDialer{probetest.Dialer{To: s.UnknownHostAddr}, "127.0.0.1:19092"}
		probetest.RequireFailure(t, probetest.CheckThrough(t, kafka.Type, dialer, nil, 30*time.Second),
			"the broker advertises "+broker.UnreachableHost+":9092 (no such host), which this machine cannot reach",
			"FORWARD://127.0.0.1:19092", "local_port = 9092", "127.0.0.1 "+broker.UnreachableHost, `advertised = "ignore"`)
		if err := probetest.CheckThrough(t, kafka.Type, dialer, project.Settings{"advertised": "ignore"}, 30*time.Second); err != nil {
			t.Errorf("ignored: %v", err)
		}
		closed := fmt.Sprintf("127.0.0.1:%d", s.ClosedPort)
		probetest.RequireFailure(t, probetest.Check(t, kafka.Type, s.ClosedPortAddr, nil), "advertises "+closed+" (connect: connection refused)", fmt.Sprint("local_port = ", s.ClosedPort))
		if err := probetest.CheckThrough(t, kafka.Type, forwardedDialer{probetest.Dialer{To: s.ClosedPortAddr}, closed}, nil, 30*time.Second); err != nil {
			t.Errorf("with the service where the broker sends its clients: %v", err)
		}
	})
	t.Run("topic", func(t *testing.T) {
		probetest.RequireFailure(t, probetest.Check(t, kafka.Type, s.Addr(), project.Settings{"topic": "nothing"}), `topic "nothing"`, "UNKNOWN_TOPIC_OR_PARTITION", "health_check.topic")
	})
	t.Run("stopped and started", func(t *testing.T) {
		s.Stop()
		if err := probetest.Check(t, kafka.Type, s.Addr(), nil); err == nil {
			t.Error("a stopped broker passes the check")
		}
		s.Restart()
		if err := probetest.Check(t, kafka.Type, s.Addr(), nil); err != nil {
			t.Errorf("started again: %v", err)
		}
	})
}

func TestCheck_ReportsScriptedFailures(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	addr := cluster.ListenAddrs()[0]
	if err := probetest.Check(t, kafka.Type, addr, project.Settings{"topic": "orders"}); err != nil {
		t.Errorf("nothing scripted: %v", err)
	}
	cluster.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.MetadataResponse)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = new("orders")
		partition := kmsg.NewMetadataResponseTopicPartition()
		partition.ErrorCode = 5
		topic.Partitions = append(topic.Partitions, partition)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	probetest.RequireFailure(t, probetest.Check(t, kafka.Type, addr, project.Settings{"topic": "orders"}), `topic "orders", partition 0`, "LEADER_NOT_AVAILABLE")
}

func TestCheck_ReportsAServerThatIsNotABroker(t *testing.T) {
	probetest.RequireFailure(t, probetest.Check(t, kafka.Type, probetest.StartGreetingServer(t, "SSH-2.0-OpenSSH_9.2\r\n"), nil), "not a Kafka response", "SSH-2.0")
	probetest.RequireFailure(t, probetest.Check(t, kafka.Type, probetest.StartGreetingServer(t, "\x00\x00\x00\x08\x00\x00\x00\x07garb"), nil), "not a Kafka response") // another's number
	if err := probetest.Check(t, kafka.Type, probetest.StartClosingServer(t), nil); err == nil {
		t.Error("a server that hangs up passes the check")
	}
	for name, addr := range map[string]string{"silent": probetest.StartSilentServer(t), "half an answer": probetest.StartGreetingServer(t, "\x00\x00\x00\x08\x00\x00\x00\x01\x00")} {
		err := probetest.CheckThrough(t, kafka.Type, probetest.Dialer{To: addr}, nil, 100*time.Millisecond)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
