package mosquitto

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/testdata/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Return codes of CONNACK (MQTT 3.1.1, section 3.2.2.3).
const (
	accepted      = 0
	notAuthorized = 5
)

// connect logs in as the user "app", or without a user if password is "", and returns the broker's return code.
func connect(t *testing.T, s *Server, password string) byte {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if s.CAFile != "" {
		conn = tls.Client(conn, certs.ClientConfig(t, s.CAFile))
	}
	flags, login := byte(0x02), ""
	if password != "" {
		flags, login = 0xc2, encodeField("app")+encodeField(password)
	}
	body := encodeField("MQTT") + string([]byte{4, flags, 0, 60}) + encodeField("test") + login
	if _, err := conn.Write([]byte("\x10" + string(rune(len(body))) + body)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil {
		t.Fatal(err)
	}
	return answer[3]
}

// encodeField encodes a string with its length (MQTT 3.1.1, section 1.5.3).
func encodeField(text string) string { return string([]byte{0, byte(len(text))}) + text }

func TestServer_AcceptsOnlyThePassword(t *testing.T) {
	s := Start(t, Options{Password: "word"})
	for password, want := range map[string]byte{"word": accepted, "wrong": notAuthorized, "": notAuthorized} {
		if got := connect(t, s, password); got != want {
			t.Errorf("%q: %d", password, got)
		}
	}
}

func TestServer_RestartKeepsPortAndTLS(t *testing.T) {
	s := Start(t, Options{AllowAnonymous: true, TLS: true})
	addr := s.Addr()
	if got := connect(t, s, ""); got != accepted {
		t.Errorf("got %d", got)
	}
	s.Restart()
	if got := connect(t, s, ""); got != accepted || s.Addr() != addr {
		t.Errorf("got %d from %s, before %s", got, s.Addr(), addr)
	}
}
