package redis

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/testdata/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sendCommands sends commands on one connection and returns the first line of each answer.
func sendCommands(t *testing.T, s *Server, commands ...string) []string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if s.CAFile != "" {
		conn = tls.Client(conn, certs.ClientConfig(t, s.CAFile))
	}
	answers := bufio.NewReader(conn)
	var got []string
	for _, command := range commands {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			t.Fatal(err)
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(line))
	}
	return got
}

func TestServer_AcceptsEverybodyWithoutPassword(t *testing.T) {
	if got := sendCommands(t, Start(t, Options{}), "PING"); got[0] != "+PONG" {
		t.Errorf("got %q", got)
	}
}

func TestServer_EnforcesPasswordsAndACLs(t *testing.T) {
	s := Start(t, Options{Password: `pass "word"`, User: "app", UserPassword: "other", UserRules: "+auth"})
	for command, want := range map[string]string{
		"PING":                 "-NOAUTH",
		`AUTH wrong`:           "-WRONGPASS",
		`AUTH "pass \"word\""`: "+OK",
		"AUTH app wrong":       "-WRONGPASS",
		"AUTH app other":       "+OK",
		"AUTH nobody whatever": "-WRONGPASS",
	} {
		if got := sendCommands(t, s, command); !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := sendCommands(t, s, "AUTH app other", "PING"); !strings.HasPrefix(got[1], "-NOPERM") {
		t.Errorf("got %q", got)
	}
}

func TestServer_RestartKeepsPortAndTLS(t *testing.T) {
	s := Start(t, Options{TLS: true})
	addr := s.Addr()
	if got := sendCommands(t, s, "PING"); got[0] != "+PONG" {
		t.Errorf("got %q", got)
	}
	s.Restart()
	if got := sendCommands(t, s, "PING"); got[0] != "+PONG" || s.Addr() != addr {
		t.Errorf("got %q from %s, before %s", got, s.Addr(), addr)
	}
}
