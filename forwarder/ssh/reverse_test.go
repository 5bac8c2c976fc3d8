package ssh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// newReverseService returns a service with reverse: the server listens on remoteAddr and forwards to local.
func newReverseService(t *testing.T, server *sshd.Server, remoteAddr, local string) project.Service {
	t.Helper()
	svc := newService(server, remoteAddr)
	svc.Reverse = true
	addr := netip.MustParseAddrPort(local)
	svc.LocalPort, svc.LocalAddress = int(addr.Port()), addr.Addr()
	return svc
}

func TestReverseTunnel_ServerListensAndConnectsHere(t *testing.T) {
	server := sshd.Start(t)
	remoteAddr := unusedAddr(t)
	r := newRun(t)
	tunnel := openTunnel(t, newReverseService(t, server, remoteAddr, startBackend(t)), r)
	conn, err := net.Dial("tcp4", remoteAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	requireWelcome(t, conn)
	probe, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, probe)
	_ = probe.Close()
	// A second listener on the same port of the server fails and affects no other tunnel.
	other := openTunnel(t, newService(server, startBackend(t)), r)
	busy := newReverseService(t, server, startBackend(t), startBackend(t))
	if f := openFailure(t, busy, r); f.Class != forwarder.Transient || !strings.Contains(f.Reason, "remote port forwarding failed for listen port") ||
		!strings.HasPrefix(f.Reason, "port "+busy.RemotePort+" of 127.0.0.1 is already in use: ") || !strings.Contains(f.Hint, "ClientAliveInterval") {
		t.Errorf("port in use: %+v", f)
	}
	_ = tunnel.Close()
	if err := other.(*directTunnel).master.conn.Ping(t.Context()); err != nil { // the server has handled the close before it answers
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp4", remoteAddr); err == nil {
		_ = conn.Close()
		t.Error("the server still listens")
	}
	requireWelcome(t, dialTunnel(t, other))
}

func TestReverseTunnel_RefusesWhenNothingListensLocally(t *testing.T) {
	tunnel := openTunnel(t, newReverseService(t, sshd.Start(t), unusedAddr(t), unusedAddr(t)), newRun(t))
	if r := dialRefused(t, tunnel); !r.IsConnectFailure || !strings.HasPrefix(r.Reason, "nothing listens on 127.0.0.1:") {
		t.Errorf("got %+v", r)
	}
}

// serveOn starts a server that greets every client, on an address.
func serveOn(t *testing.T, network, addr string) (stop func()) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("welcome "))
			_ = conn.Close()
		}
	})
	stop = sync.OnceFunc(func() { _ = l.Close(); serving.Wait() })
	t.Cleanup(stop)
	return stop
}

func TestReverseTunnel_ReachesTheLocalServerOnEitherLoopbackAddress(t *testing.T) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skipf("IPv6 is missing: %v", err)
	} else {
		_ = l.Close()
	}
	remoteAddr, local := unusedAddr(t), unusedAddr(t)
	svc := newReverseService(t, sshd.Start(t), remoteAddr, local)
	svc.LocalAddress = netip.Addr{}
	stop := serveOn(t, "tcp6", fmt.Sprintf("[::1]:%d", svc.LocalPort))
	tunnel := openTunnel(t, svc, newRun(t))
	connect := func() {
		t.Helper()
		conn, err := net.Dial("tcp4", remoteAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		requireWelcome(t, conn)
	}
	connect()
	stop()
	if r := dialRefused(t, tunnel); r.Reason != fmt.Sprintf("nothing listens on %s or [::1]:%d on this machine", local, svc.LocalPort) {
		t.Errorf("got %+v", r)
	}
	serveOn(t, "tcp4", local) // it was restarted, and listens elsewhere
	conn, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, conn)
	_ = conn.Close()
	connect()
}

// sshd says which of its settings forbids listening.
func TestReverseTunnel_RefusingServerIsExplained(t *testing.T) {
	const keysOnly = "authorized_keys:1"
	for _, tt := range []struct {
		line, keyOptions string
		hint             []string
		not              []string
	}{
		{"AllowTcpForwarding local", "", []string{"sshd_config of 127.0.0.1 must allow it: AllowTcpForwarding yes (or remote), and no DisableForwarding"}, []string{"PermitListen", "authorized_keys"}},
		{"DisableForwarding yes", "", []string{"no DisableForwarding"}, []string{"PermitListen", "authorized_keys"}},
		{"PermitListen none", "", []string{"sshd_config of 127.0.0.1 must allow it: ADDR (or PORT) in PermitListen; "}, []string{"AllowTcpForwarding", "authorized_keys"}},
		{"", "no-port-forwarding", []string{keysOnly + " on 127.0.0.1 forbids forwarding for this key: remove no-port-forwarding"}, []string{"sshd_config"}},
		{"", "restrict,pty", []string{keysOnly + " on 127.0.0.1 forbids forwarding for this key", "add port-forwarding if it has restrict"}, []string{"sshd_config"}},
		{"", `permitlisten="1"`, []string{"ADDR (or PORT) in PermitListen", "and so must permitlisten in ", keysOnly}, []string{"AllowTcpForwarding"}},
	} {
		server := sshd.Start(t, tt.line)
		server.RestrictKeys(tt.keyOptions)
		svc := newReverseService(t, server, unusedAddr(t), startBackend(t))
		addr := "127.0.0.1:" + svc.RemotePort
		f := openFailure(t, svc)
		if !strings.HasPrefix(f.Reason, "127.0.0.1 does not allow listening on "+addr+": ") {
			t.Errorf("%s %s: reason %q", tt.line, tt.keyOptions, f.Reason)
		}
		for _, want := range tt.hint {
			if want = strings.NewReplacer("ADDR", addr, "PORT", svc.RemotePort).Replace(want); !strings.Contains(f.Hint, want) {
				t.Errorf("%s %s: hint %q, want %q", tt.line, tt.keyOptions, f.Hint, want)
			}
		}
		for _, other := range tt.not {
			if strings.Contains(f.Hint, other) {
				t.Errorf("%s %s: hint %q names %s", tt.line, tt.keyOptions, f.Hint, other)
			}
		}
	}
}

// Its settings allow it, but the system does not.
func TestReverseTunnel_AddressThatTheServerDoesNotHaveIsNamed(t *testing.T) {
	const linkLocal = "[fe80::1]" // without an interface it is nobody's
	for _, tt := range []struct{ forbidding, hint string }{
		{"PermitOpen any", "all of them; the server is asked again"},
		{"PermitOpen none", "all of them; or the port is probably in use: "},
	} {
		server := sshd.Start(t, "GatewayPorts clientspecified", tt.forbidding)
		svc := newReverseService(t, server, strings.Replace(unusedAddr(t), "127.0.0.1", linkLocal, 1), startBackend(t))
		f := openFailure(t, svc)
		if want := "127.0.0.1 cannot listen on " + linkLocal + ":" + svc.RemotePort + ", although its settings allow it: "; !strings.HasPrefix(f.Reason, want) || !strings.HasPrefix(f.Hint, "remote_host must be an address of 127.0.0.1 itself") || !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.forbidding, f)
		}
	}
}

// startLossyProxy forwards to an address. cut breaks the connections of its clients only, as a network does for whoever changes it.
func startLossyProxy(t *testing.T, addr string) (port int, cut func()) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var clients, servers []net.Conn
	closeAll := func(conns *[]net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range *conns {
			_ = conn.Close()
		}
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp4", addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			clients, servers = append(clients, client), append(servers, server)
			mu.Unlock()
			running.Go(func() { _, _ = io.Copy(client, server) })
			running.Go(func() { _, _ = io.Copy(server, client) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); closeAll(&clients); closeAll(&servers); running.Wait() })
	return l.Addr().(*net.TCPAddr).Port, func() { closeAll(&clients) }
}

func TestReverseTunnel_PortKeptByItsOwnDeadSessionIsNamed(t *testing.T) {
	server := sshd.Start(t)
	port, cut := startLossyProxy(t, server.Addr())
	svc := newReverseService(t, server, unusedAddr(t), startBackend(t))
	svc.Name = "hook"
	svc.Connection.Settings["port"] = port
	svc.Connection.Settings["options"] = map[string]string{"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
	r := newRun(t)
	tunnel := openTunnel(t, svc, r)
	cut()
	<-tunnel.Done()
	_ = tunnel.Close()
	f := openFailure(t, svc, r)
	if f.Class != forwarder.Transient || !strings.HasPrefix(f.Reason, "port "+svc.RemotePort+" of 127.0.0.1 is still kept by this service's own previous session") ||
		!strings.Contains(f.Hint, "ClientAliveInterval") {
		t.Errorf("got %+v", f)
	}
	server.Kill() // and with it the dead session
	server.Restart()
	_ = openTunnel(t, svc, r).Close()
}

// sshd listens on 127.0.0.1 and ::1, and accepts the request if one of them is free.
func TestReverseTunnel_PortThatAnotherProgramHasOnOneLoopbackAddressIsAFailure(t *testing.T) {
	server := sshd.Start(t)
	for network, host := range map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1"} {
		other, err := net.Listen(network, net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(other.Addr().String())
		svc := newReverseService(t, server, unusedAddr(t), startBackend(t))
		svc.RemotePort = port
		delete(svc.Connection.Settings, "remote_host")
		r := newRun(t)
		f := openFailure(t, svc, r)
		if want := "port " + port + " of 127.0.0.1 is already in use: another program answers on " + other.Addr().String(); f.Class != forwarder.Transient || f.Reason != want {
			t.Errorf("got %+v, want %s", f, want)
		}
		_ = other.Close()
		_ = openTunnel(t, svc, r).Close()
	}
}

func TestReverseTunnel_ServerThatListensElsewhereIsAFailure(t *testing.T) {
	if l, err := net.Listen("tcp4", "127.0.0.2:0"); errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skip("127.0.0.2 is missing (ip addr add 127.0.0.2/8 dev lo)")
	} else if err == nil {
		_ = l.Close()
	}
	for _, tt := range []struct{ line, reason string }{
		{"GatewayPorts no", "127.0.0.1 does not listen on 127.0.0.2:"},
		{"GatewayPorts clientspecified", ""},
	} {
		server := sshd.Start(t, tt.line)
		remote := netip.MustParseAddrPort(unusedAddr(t))
		svc := newReverseService(t, server, fmt.Sprintf("127.0.0.2:%d", remote.Port()), startBackend(t))
		f := openTunnel(t, svc, newRun(t)).(forwarder.FailureReporter).CurrentFailure()
		if (f == nil) != (tt.reason == "") || f != nil && (!strings.HasPrefix(f.Reason, tt.reason) || !strings.Contains(f.Hint, "GatewayPorts clientspecified")) {
			t.Errorf("%s: %+v", tt.line, f)
		}
	}
}

// networkAddr returns an address of this machine that is not a loopback one.
func networkAddr(t *testing.T) netip.Addr {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr()
		}
	}
	t.Skip("the machine has no IPv4 address besides 127.0.0.1")
	return netip.Addr{}
}

func TestReverseTunnel_GatewayPortsAgainstTheRequestIsAFailure(t *testing.T) {
	host := networkAddr(t)
	for _, tt := range []struct{ line, remoteHost, reason string }{
		{"GatewayPorts yes", "localhost", host.String() + " listens on port "},
		{"GatewayPorts no", "localhost", ""},
		{"GatewayPorts no", "0.0.0.0", host.String() + " does not listen on 0.0.0.0:"},
		{"GatewayPorts yes", "0.0.0.0", ""},
	} {
		sshPort, remote := netip.MustParseAddrPort(unusedAddr(t)).Port(), netip.MustParseAddrPort(unusedAddr(t)).Port()
		server := sshd.Start(t, tt.line, fmt.Sprintf("ListenAddress %s:%d", host, sshPort))
		svc := newReverseService(t, server, fmt.Sprintf("%s:%d", tt.remoteHost, remote), startBackend(t))
		svc.Connection.Settings["host"], svc.Connection.Settings["port"] = host.String(), int(sshPort)
		svc.Connection.Settings["options"] = map[string]string{"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
		tunnel := openTunnel(t, svc, newRun(t)).(*reverseTunnel)
		f := tunnel.CurrentFailure()
		if (f == nil) != (tt.reason == "") || f != nil && (!strings.HasPrefix(f.Reason, tt.reason) || !strings.Contains(f.Hint, "GatewayPorts")) {
			t.Errorf("%s, remote_host %s: %+v", tt.line, tt.remoteHost, f)
		}
		if got := tunnel.spec.listensAsAsked(t.Context(), tunnel.master, tunnel.spec.remoteForward(tunnel.spec.localAddrs[0])); got != (tt.reason == "") {
			t.Errorf("%s, remote_host %s: another port listens as asked: %t", tt.line, tt.remoteHost, got)
		}
	}
}

// Over loopback, or behind a jump host, the server's own address is not known.
func TestReverseTunnel_GatewayPortsOfAServerWithoutAKnownAddress(t *testing.T) {
	if l, err := net.Listen("tcp4", "127.0.0.2:0"); errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skip("127.0.0.2 is missing (ip addr add 127.0.0.2/8 dev lo)")
	} else if err == nil {
		_ = l.Close()
	}
	const elsewhere, public = "127.0.0.1 does not listen on ", "127.0.0.1 listens on port "
	for line, reasons := range map[string]map[string]string{
		"GatewayPorts no":              {"*": elsewhere, "0.0.0.0": elsewhere, "::": elsewhere, "localhost": ""},
		"GatewayPorts clientspecified": {"*": "", "0.0.0.0": "", "::": "", "localhost": ""},
		"GatewayPorts yes":             {"*": "", "0.0.0.0": "", "::": "", "localhost": public, "::1": public},
	} {
		server := sshd.Start(t, line)
		r := newRun(t)
		for host, reason := range reasons {
			port := netip.MustParseAddrPort(unusedAddr(t)).Port()
			svc := newReverseService(t, server, net.JoinHostPort(host, strconv.Itoa(int(port))), startBackend(t))
			tunnel := openTunnel(t, svc, r).(*reverseTunnel)
			f := tunnel.CurrentFailure()
			if (f == nil) != (reason == "") || f != nil && !strings.HasPrefix(f.Reason, reason) {
				t.Errorf("%s, remote_host %s: %+v", line, host, f)
			}
			if got := tunnel.spec.listensAsAsked(t.Context(), tunnel.master, tunnel.spec.remoteForward(tunnel.spec.localAddrs[0])); got != (reason == "") {
				t.Errorf("%s, remote_host %s: another port listens as asked: %t", line, host, got)
			}
			_ = tunnel.Close()
		}
	}
}

// PermitOpen and AllowTcpForwarding forbid the connection that would show where the server listens; it tells without one.
func TestReverseTunnel_GatewayPortsOfAServerThatForbidsConnections(t *testing.T) {
	const elsewhere, public = "127.0.0.1 does not listen on ", "127.0.0.1 listens on port "
	for _, tt := range []struct {
		line, forbidding string
		reasons          map[string]string
	}{
		{"GatewayPorts no", "AllowTcpForwarding remote", map[string]string{"*": elsewhere, "0.0.0.0": elsewhere, "localhost": ""}},
		{"GatewayPorts no", "PermitOpen 127.0.0.1:1", map[string]string{"::": elsewhere}},
		{"GatewayPorts clientspecified", "AllowTcpForwarding remote", map[string]string{"*": "", "0.0.0.0": "", "localhost": ""}},
		{"GatewayPorts yes", "AllowTcpForwarding remote", map[string]string{"0.0.0.0": "", "::": "", "localhost": public, "::1": public}},
	} {
		server, r := sshd.Start(t, tt.line, tt.forbidding), newRun(t)
		for host, reason := range tt.reasons {
			port := netip.MustParseAddrPort(unusedAddr(t)).Port()
			svc := newReverseService(t, server, net.JoinHostPort(host, strconv.Itoa(int(port))), startBackend(t))
			tunnel := openTunnel(t, svc, r).(*reverseTunnel)
			f := tunnel.CurrentFailure()
			if (f == nil) != (reason == "") || f != nil && !strings.HasPrefix(f.Reason, reason) || tunnel.Note() != "" {
				t.Errorf("%s, %s, remote_host %s: %+v, note %q", tt.line, tt.forbidding, host, f, tunnel.Note())
			}
			if got := tunnel.spec.listensAsAsked(t.Context(), tunnel.master, tunnel.spec.remoteForward(tunnel.spec.localAddrs[0])); got != (reason == "") {
				t.Errorf("%s, %s, remote_host %s: another port listens as asked: %t", tt.line, tt.forbidding, host, got)
			}
			_ = tunnel.Close()
		}
	}
}

// PermitListen also forbids the request that would show it. Then a connection from this machine may.
func TestReverseTunnel_UnknownListenAddressIsItsNote(t *testing.T) {
	network := networkAddr(t).String()
	for _, tt := range []struct {
		host, gatewayPorts string
		isKnown            bool
	}{
		{"127.0.0.1", "no", false},
		{"127.0.0.1", "clientspecified", false}, // not by a connection to an address that every machine has
		{network, "no", false},
		{network, "clientspecified", true},
	} {
		sshPort, remote := netip.MustParseAddrPort(unusedAddr(t)).Port(), fmt.Sprintf("0.0.0.0:%d", netip.MustParseAddrPort(unusedAddr(t)).Port())
		server, r := sshd.Start(t, fmt.Sprintf("ListenAddress %s:%d", tt.host, sshPort), "PermitOpen none", "PermitListen "+remote, "GatewayPorts "+tt.gatewayPorts), newRun(t)
		svc := newReverseService(t, server, remote, startBackend(t))
		svc.Connection.Settings["host"], svc.Connection.Settings["port"] = tt.host, int(sshPort)
		svc.Connection.Settings["options"] = map[string]string{"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
		tunnel := openTunnel(t, svc, r).(*reverseTunnel)
		if f := tunnel.CurrentFailure(); f != nil {
			t.Errorf("%+v: %+v", tt, f)
		}
		want := ""
		if !tt.isKnown {
			want = "it is not known whether " + tt.host + " listens on " + remote + ", or on its localhost only"
		}
		log, note := r.Log.(*syncbuf.Buffer).String(), tunnel.Note()
		if !strings.HasPrefix(note, want) || (note == "") != tt.isKnown || !strings.Contains(log, note) {
			t.Errorf("%+v: note %q; log:\n%s", tt, note, log)
		}
		_ = tunnel.Close()
	}
}

// A silence that ends breaks no connection; the service shows it meanwhile.
func TestReverseTunnel_ConnectionsSurviveASilence(t *testing.T) {
	server := sshd.Start(t)
	remoteAddr := unusedAddr(t)
	tunnel := openTunnel(t, newReverseService(t, server, remoteAddr, startBackend(t)), newRun(t)).(*reverseTunnel)
	conn, err := net.Dial("tcp4", remoteAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	requireWelcome(t, conn)
	server.Freeze()
	waitFailureChange(t, tunnel, func(f *forwarder.Failure) bool {
		return f != nil && f.Reason == "the ssh server did not answer within 3s"
	})
	server.Thaw()
	waitFailureChange(t, tunnel, func(f *forwarder.Failure) bool { return f == nil })
	if _, err := conn.Write([]byte("welcome ")); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, conn)
	select {
	case <-tunnel.Done():
		t.Errorf("the tunnel has ended: %v", tunnel.Err())
	default:
	}
}
