package ssh

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

func TestDirectTunnel_CarriesBytesAndHalfCloses(t *testing.T) {
	tunnel := openDirect(t, newService(sshd.Start(t), startBackend(t)))
	for range 3 {
		conn := dialTunnel(t, tunnel)
		if _, err := conn.Write([]byte("back")); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "welcome back" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if log := tunnel.master.runConfig.Log.(*syncbuf.Buffer).String(); strings.Contains(log, "debug1") {
		t.Errorf("the log has debug lines:\n%s", log)
	}
	if err := tunnel.Close(); err != nil || tunnel.Err() != nil {
		t.Errorf("close: %v, %v", err, tunnel.Err())
	}
	if _, err := tunnel.Dial(t.Context()); err == nil {
		t.Error("dialed after close")
	}
}

func TestDirectTunnel_RemoteHostDefaultsToLocalhost(t *testing.T) {
	svc := newService(sshd.Start(t), startBackend(t))
	svc.Connection.Settings["remote_host"] = ""
	requireWelcome(t, dialTunnel(t, openDirect(t, svc)))
}

func TestDirectTunnel_ConnectsToIPv6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("IPv6 is missing: %v", err)
	}
	defer l.Close()
	tunnel := openDirect(t, newService(sshd.Start(t), l.Addr().String()))
	conn := dialTunnel(t, tunnel)
	remoteConn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer remoteConn.Close()
	if _, err := remoteConn.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, conn)
}

func TestDirectTunnel_RefusalAffectsOneConnection(t *testing.T) {
	// A server that stops listening after one connection, so that later ones are refused while the first goes on.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tunnel := openDirect(t, newService(sshd.Start(t), l.Addr().String()))
	first := dialTunnel(t, tunnel)
	remoteConn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer remoteConn.Close()
	_ = l.Close()
	for range 5 {
		if r := dialRefused(t, tunnel); !r.IsConnectFailure || r.IsFinal || r.Reason != "127.0.0.1 cannot connect to "+l.Addr().String()+": Connection refused" {
			t.Errorf("refusal %+v", r)
		}
	}
	if _, err := remoteConn.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, first)
	select {
	case <-tunnel.Done():
		t.Error("the refusals ended the tunnel")
	default:
	}
}

func TestDirectTunnel_EveryRefusalIsAFailedConnect(t *testing.T) {
	server := sshd.Start(t)
	unused, forbidden := unusedAddr(t), startBackend(t)
	for _, tt := range []struct {
		server             *sshd.Server
		addr, reason, hint string
		isFinal            bool
	}{
		{server, unused, "127.0.0.1 cannot connect to " + unused + ": Connection refused", "", false},
		{server, "no-such-host.invalid:80", "127.0.0.1 cannot resolve no-such-host.invalid: ", "resolved on 127.0.0.1, not on this machine", false},
		{server.StartAnother("AllowTcpForwarding no"), forbidden, "127.0.0.1 does not allow connections to " + forbidden + " (administratively prohibited)", "AllowTcpForwarding", true},
		{server.StartAnother("PermitOpen 127.0.0.1:1"), forbidden, "127.0.0.1 does not allow connections to " + forbidden + " (administratively prohibited)", forbidden + " in PermitOpen", true},
	} {
		tunnel := openDirect(t, newService(tt.server, tt.addr))
		r := dialRefused(t, tunnel)
		if !r.IsConnectFailure || r.IsFinal != tt.isFinal || !strings.HasPrefix(r.Reason, tt.reason) || !strings.Contains(r.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.addr, r)
		}
	}
}

// sshd does not say which of its settings forbids a connection, but which options the key has.
func TestDirectTunnel_RefusalNamesTheSettingsThatMayForbidIt(t *testing.T) {
	addr := startBackend(t)
	for keyOptions, hint := range map[string]string{
		"no-port-forwarding":         "/authorized_keys:1 on 127.0.0.1 forbids forwarding for this key: remove no-port-forwarding",
		`permitopen="192.0.2.123:1"`: addr + " in PermitOpen if that is set; and so must permitopen in ",
		"no-pty":                     addr + " in PermitOpen if that is set; the server is asked again",
	} {
		server := sshd.Start(t, map[bool]string{true: "PermitOpen 127.0.0.1:2"}[keyOptions == "no-pty"])
		server.RestrictKeys(keyOptions)
		tunnel := openDirect(t, newService(server, addr))
		if !tunnel.master.output.waitServer(t.Context(), func(s *serverMessages) bool { return s.key.source != "" }) {
			t.Fatal("the server did not tell the options of the key")
		}
		if r := dialRefused(t, tunnel); !r.IsFinal || !strings.Contains(r.Hint, hint) {
			t.Errorf("%s: %+v", keyOptions, r)
		}
		proxy := newSOCKSService(server)
		proxyTunnel := openTunnel(t, proxy, newRun(t)).(*socksTunnel)
		if f := proxyTunnel.CurrentFailure(); f == nil || strings.Contains(f.Hint, "PermitOpen") == (keyOptions == "no-port-forwarding") {
			t.Errorf("SOCKS, %s: %+v", keyOptions, f)
		}
	}
}

// serveLookups serves a connection on which each channel is refused with the next of the messages; empty: it is accepted.
func serveLookups(conn net.Conn, config *ssh.ServerConfig, messages []string) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		message := messages[0]
		messages = messages[1:]
		if message != "" {
			_ = offered.Reject(ssh.ConnectionFailed, message)
			continue
		}
		_, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
	}
}

// A client does not wait for a name that the server has never known.
func TestDirectTunnel_UnknownHostIsFinalAtTheSecondAnswer(t *testing.T) {
	const unknown, temporary, refused = "Name or service not known", "Temporary failure in name resolution", "Connection refused"
	for name, tt := range map[string]struct {
		messages []string
		want     []bool // the refusals that are final
	}{
		"never known":       {[]string{unknown, unknown, unknown}, []bool{false, true, true}},
		"musl":              {[]string{"Name does not resolve", "Name does not resolve"}, []bool{false, true}},
		"no name server":    {[]string{temporary, temporary, temporary}, []bool{false, false, false}},
		"known before":      {[]string{refused, unknown, unknown, unknown}, []bool{false, false, false, false}},
		"connected before":  {[]string{"", unknown, unknown}, []bool{false, false, false}},
		"known later":       {[]string{unknown, unknown, "", unknown, unknown}, []bool{false, true, false, false, false}},
		"refused after all": {[]string{unknown, unknown, refused}, []bool{false, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			svc := project.Service{RemotePort: "1", Connection: startScriptedServer(t, func(conn net.Conn, config *ssh.ServerConfig) { serveLookups(conn, config, tt.messages) })}
			svc.Connection.Settings["remote_host"] = "db"
			tunnel := openDirect(t, svc)
			var got []bool
			for range tt.messages {
				conn, err := tunnel.Dial(t.Context())
				if err == nil {
					_ = conn.Close()
				}
				refusal, isRefusal := errors.AsType[*forwarder.Refusal](err)
				got = append(got, isRefusal && refusal.IsFinal)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// The server had connected: the client sees the end, and is not connected again.
func TestDirectTunnel_ConnectionThatEndsAtOnceIsNoFailedDial(t *testing.T) {
	svc := project.Service{RemotePort: "1", Connection: startScriptedServer(t, func(conn net.Conn, config *ssh.ServerConfig) {
		defer conn.Close()
		_, channels, requests, err := ssh.NewServerConn(conn, config)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		for offered := range channels {
			if offered.ChannelType() != "direct-tcpip" {
				_ = offered.Reject(ssh.UnknownChannelType, "")
				continue
			}
			if channel, requests, err := offered.Accept(); err == nil {
				go ssh.DiscardRequests(requests)
				_ = channel.Close() // without EOF
			}
		}
	})}
	tunnel := openDirect(t, svc)
	for range 50 {
		conn, err := tunnel.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		_ = conn.Close()
	}
}

func TestDirectTunnel_CarriesThreeHundredConnections(t *testing.T) {
	tunnel := openDirect(t, newService(sshd.Start(t), startBackend(t)))
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			conn, err := tunnel.Dial(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			got := make([]byte, 8)
			if _, err := io.ReadFull(conn, got); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
