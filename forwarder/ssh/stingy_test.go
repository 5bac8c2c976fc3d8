package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
)

// stingy is an ssh server as no sshd can be set up: it has one channel for each connection, and lets everybody in unless it is
// told how not to.
func stingy(t *testing.T, change ...func(*ssh.ServerConfig)) project.Connection {
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
	for _, to := range change {
		to(config)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
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
			serving.Go(func() { serveOne(conn, config) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return project.Connection{Settings: project.Settings{
		"host": "127.0.0.1", "port": l.Addr().(*net.TCPAddr).Port, "user": "anybody", "remote_host": "127.0.0.1", "config_file": "/dev/null",
		"options": map[string]string{"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "IdentityAgent": "none"},
	}}
}

func serveOne(conn net.Conn, config *ssh.ServerConfig) {
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

func TestAServerThatDoesNotLetServicesShareIsTakenAtItsWord(t *testing.T) {
	to := stingy(t)
	r := run(t)
	one := project.Service{Name: "one", RemotePort: "1", Connection: to}
	two := project.Service{Name: "two", RemotePort: "2", Connection: to}
	first, second := openIn(t, one, r), openIn(t, two, r)
	if first.(*direct).master != second.(*direct).master {
		t.Fatal("they do not share")
	}
	stays := dial(t, first)
	welcome(t, stays)
	if r := refused(t, second); !strings.Contains(r.Reason, "resource shortage: one is enough") {
		t.Errorf("got %+v", r)
	}
	transient(t, ended(t, second), "no room for several services")
	_ = second.Close()
	welcome(t, dial(t, openIn(t, two, r)))
	select {
	case <-first.Done():
		t.Errorf("the other has ended: %v", first.Err())
	default:
	}
	if stays.Broken() {
		t.Error("the other's connection was broken")
	}
}

func TestAnSSHThatWasRefusedTooOftenIsReplacedWhenNobodyUsesIt(t *testing.T) {
	server := sshd.Start(t)
	addr := refusing(t)
	svc := service(server, addr)
	tunnel := open(t, svc)
	for range mostRefusals {
		if _, err := tunnel.Dial(t.Context()); err == nil {
			t.Fatal("not refused")
		}
	}
	f := ended(t, tunnel)
	if f.Class != forwarder.Transient || !strings.Contains(f.Reason, "replaced after "+strconv.Itoa(mostRefusals)) {
		t.Errorf("got %+v", f)
	}
}
