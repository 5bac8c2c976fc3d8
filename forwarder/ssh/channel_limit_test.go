package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/tcpserver"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

// startOneChannelServer starts an ssh server that allows one channel in each connection, which sshd cannot be configured to do. By
// default it needs no authentication.
func startOneChannelServer(t *testing.T, configure ...func(*ssh.ServerConfig)) project.Connection {
	t.Helper()
	return startScriptedServer(t, serveOneChannel, configure...)
}

// startScriptedServer starts an ssh server that serves each connection with serve.
func startScriptedServer(t *testing.T, serve func(net.Conn, *ssh.ServerConfig), configure ...func(*ssh.ServerConfig)) project.Connection {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	for _, change := range configure {
		change(config)
	}
	addr := tcpserver.Start(t, func(conn *net.TCPConn) { serve(conn, config) })
	return project.Connection{Settings: project.Settings{
		"host": "127.0.0.1", "port": addr.Port, "user": "anybody", "remote_host": "127.0.0.1", "config_file": "/dev/null",
		"options": map[string]string{"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "IdentityAgent": "none"},
	}}
}

func serveOneChannel(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	first := true
	for offered := range channels {
		if offered.ChannelType() != "direct-tcpip" {
			_ = offered.Reject(ssh.UnknownChannelType, "")
			continue
		}
		if !first {
			_ = offered.Reject(ssh.ResourceShortage, "one is enough")
			continue
		}
		first = false
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		_, _ = channel.Write([]byte("welcome "))
	}
}

func TestDestination_StopsSharingWhenServerRefusesChannels(t *testing.T) {
	connection := startOneChannelServer(t)
	r := newRun(t)
	one := project.Service{Name: "one", RemotePort: "1", Connection: connection}
	two := project.Service{Name: "two", RemotePort: "2", Connection: connection}
	first, second := openTunnel(t, one, r), openTunnel(t, two, r)
	if first.(*directTunnel).master != second.(*directTunnel).master {
		t.Fatal("the services do not share a master")
	}
	conn := dialTunnel(t, first)
	requireWelcome(t, conn)
	if r := dialRefused(t, second); !strings.Contains(r.Reason, "resource shortage: one is enough") {
		t.Errorf("got %+v", r)
	}
	checkTransient(t, tunneltest.WaitFailure(t, second), "too few channels on one connection")
	_ = second.Close()
	requireWelcome(t, dialTunnel(t, openTunnel(t, two, r)))
	select {
	case <-first.Done():
		t.Errorf("the first tunnel has ended: %v", first.Err())
	default:
	}
	if conn.IsBroken() {
		t.Error("the first tunnel's connection was broken")
	}
	// The server's settings may have changed.
	d := first.(*directTunnel).master.destination
	shared := func(run forwarder.Run) bool { return driverOf(t).destinationFor(newTunnelSpec(two), run) == d }
	if shared(r) {
		t.Error("the services share a master although the server refuses that")
	}
	restarted := r
	restarted.RestartedAt = time.Now()
	if !shared(restarted) {
		t.Error("a restart by the user does not let the services share a master again")
	}
	d.sharingRefusedAt = time.Now().Add(-recheckInterval)
	if !shared(r) {
		t.Error("the services never share a master again")
	}
	three := openTunnel(t, project.Service{Name: "three", RemotePort: "3", Connection: connection}, r)
	_ = dialRefused(t, three)
	checkTransient(t, tunneltest.WaitFailure(t, three), "too few channels on one connection")
	d.sharingRefusedAt = time.Now().Add(-recheckInterval)
	if shared(r) {
		t.Error("a server that refuses again is tried again as soon as before")
	}
}

func TestMaster_IsRecycledAfterMaxRefusals(t *testing.T) {
	server := sshd.Start(t)
	addr := unusedAddr(t)
	svc := newService(server, addr)
	tunnel := openDirect(t, svc)
	for range maxRefusals {
		if _, err := tunnel.Dial(t.Context()); err == nil {
			t.Fatal("not refused")
		}
	}
	f := tunneltest.WaitFailure(t, tunnel)
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, "restarted after "+strconv.Itoa(maxRefusals)) {
		t.Errorf("got %+v", f)
	}
}
