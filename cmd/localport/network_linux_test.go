package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/netns"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// runOnHost makes localport run on a host.
func (w *testEnv) runOnHost(h *netns.Host) {
	w.t.Helper()
	script := filepath.Join(w.home, "localport")
	text := "#!/bin/sh\nexec " + strings.Join(h.Argv(w.exe), " ") + " \"$@\"\n"
	if err := executable.WriteFile(script, []byte(text), 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.exe = script
}

// serveBannerOn starts a server on a host that sends the banner, and returns its port.
func serveBannerOn(t *testing.T, h *netns.Host, addr string) int {
	t.Helper()
	return serveOn(t, h, addr, sendBanner)
}

// serveOn starts a server on a host that calls handle for each connection, and returns its port.
func serveOn(t *testing.T, h *netns.Host, addr string, handle func(net.Conn)) int {
	t.Helper()
	ln, err := h.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { acceptAll(ln, &serving, handle) })
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return ln.Addr().(*net.TCPAddr).Port
}

// directConfig returns a service of the technology "tcp". Further keys may follow.
func directConfig(name string, port int, host netip.Addr, remote int) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\nconnection = { remote_host = %q }\n",
		name, port, remote, host)
}

// faultTimeout is how long it may take until a fault, or its end, is detected. That takes some seconds; the machine may be busy.
const faultTimeout = 20 * time.Second

// networkFault is a fault of a network or of a server.
type networkFault struct {
	name        string
	begin, end  func()
	unaffected  []string // services that stay healthy
	needsClient []string // services for which the fault is detected only when a client connects
}

// networkScenario is a project whose supervisor runs on a separate host.
type networkScenario struct {
	*testEnv
	t     *testing.T
	host  *netns.Host
	root  string
	ports map[string]int // of its services
}

// startScenario creates a project and starts it on a host.
func startScenario(w *testEnv, t *testing.T, host *netns.Host, ports map[string]int, config string) *networkScenario {
	t.Helper()
	w.runOnHost(host)
	s := &networkScenario{testEnv: w, t: t, host: host, root: w.allowedProject(config), ports: ports}
	w.mustRun(s.root, "start")
	return s
}

// services returns the names of all services.
func (s *networkScenario) services() []string { return slices.Sorted(maps.Keys(s.ports)) }

// affected returns the names of the services that a fault affects.
func (s *networkScenario) affected(m networkFault) []string {
	return slices.DeleteFunc(s.services(), func(name string) bool { return slices.Contains(m.unaffected, name) })
}

// waitHealth waits until all of the services are healthy, or none of them is, and prints for each how long that took. It requests the
// status itself, because a command for each request would load the machine.
func (s *networkScenario) waitHealth(healthy bool, names []string, when string) {
	s.t.Helper()
	supervisor := client.Client{Socket: s.state(s.root).Supervisor.Socket}
	startTime := time.Now()
	remaining := slices.Clone(names)
	eventually(s.t, fmt.Sprintf("%s: healthy is %v: %v", when, healthy, names), func() bool {
		status, err := supervisor.Status(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, svc := range status.Services {
			if at := slices.Index(remaining, svc.Name); at >= 0 && (svc.State == forwarder.Healthy) == healthy {
				remaining = slices.Delete(remaining, at, at+1)
				s.checkDuration(time.Since(startTime), fmt.Sprintf("%s: %s is %s %s", when, svc.Name, svc.State, svc.LastError))
			}
		}
		return len(remaining) == 0
	})
}

// checkDuration prints how long something took, and fails the test if that was more than faultTimeout.
func (s *networkScenario) checkDuration(took time.Duration, what string) {
	s.t.Helper()
	s.t.Logf("%4.1f s: %s", took.Seconds(), what)
	if took > faultTimeout {
		s.t.Errorf("%s: that took more than %v", what, faultTimeout)
	}
}

// connect opens a connection to a service, which must succeed, and sends all that it receives, with the error, to the returned channel.
func (s *networkScenario) connect(name string) <-chan string {
	s.t.Helper()
	conn, err := s.host.Dial(fmt.Sprintf("127.0.0.1:%d", s.ports[name]))
	if err != nil {
		s.t.Fatalf("the port of %s is closed: %v", name, err)
	}
	answerCh := make(chan string, 1)
	go func() {
		defer conn.Close()
		got, err := io.ReadAll(conn)
		answerCh <- fmt.Sprintf("%q %v", got, err)
	}()
	return answerCh
}

// checkDetected checks that a fault and its end are detected without clients.
func (s *networkScenario) checkDetected(m networkFault) {
	s.t.Helper()
	m.unaffected = slices.Concat(m.unaffected, m.needsClient)
	s.waitHealth(true, s.services(), "before "+m.name)
	m.begin()
	s.waitHealth(false, s.affected(m), m.name)
	m.end()
	s.waitHealth(true, s.affected(m), m.name+" is over")
}

// checkSurvived checks that clients that connect during a fault are accepted, and answered after it.
func (s *networkScenario) checkSurvived(m networkFault) {
	s.t.Helper()
	s.waitHealth(true, s.services(), "before "+m.name)
	m.begin()
	answers := map[string]<-chan string{}
	for _, name := range s.affected(m) {
		answers[name] = s.connect(name)
	}
	s.waitHealth(false, s.affected(m), m.name)
	m.end()
	endTime := time.Now()
	for _, name := range s.affected(m) {
		got := <-answers[name]
		s.checkDuration(time.Since(endTime), fmt.Sprintf("%s is over: the client that waited for %s got %s", m.name, name, got))
		if got != `"220 ready\n" <nil>` {
			s.t.Errorf("%s: the client that waited for %s got %s", m.name, name, got)
		}
	}
}

// stop stops the project and checks that nothing is left of it.
func (s *networkScenario) stop() {
	s.t.Helper()
	supervisor := s.supervisor(s.root)
	children := findChildren(s.t, supervisor.PID)
	s.mustRun(s.root, "stop")
	s.waitExit(supervisor)
	for _, child := range children {
		s.waitExit(child)
	}
	s.checkNothingLeft(s.root)
}

// newLANScenario is a project with three services on a neighbouring host: mail through sshd, web and api directly. web is checked every
// 30 s, so that only the network watch or a client detects a fault in time; api is checked often, because nothing else detects lost
// packets. The faults are all that may happen between the two hosts.
func newLANScenario(t *testing.T) (s *networkScenario, faults []networkFault) {
	t.Helper()
	local, remote := netns.NewHostPair(t)
	w := newTestEnv(t)
	host := sshd.StartOn(t, remote, remote.Addr.String())
	ports := map[string]int{"mail": ports.FreePort(t), "web": ports.FreePort(t), "api": ports.FreePort(t)}
	s = startScenario(w, t, local, ports, sshConfig("mail", ports["mail"], host, serveBannerOn(t, remote, "127.0.0.1:0"))+
		directConfig("web", ports["web"], remote.Addr, serveBannerOn(t, remote, remote.Addr.String()+":0"))+
		directConfig("api", ports["api"], remote.Addr, serveBannerOn(t, remote, remote.Addr.String()+":0"))+
		"health_check = { interval = \"5s\" }\n")
	tcp := []string{"api", "web"}
	return s, []networkFault{
		{"the server is killed", host.Kill, host.Restart, tcp, nil},
		{"the server is frozen", host.Freeze, host.Thaw, tcp, nil},
		{"the server is frozen and restarted", host.Freeze, host.Restart, tcp, nil},
		{"packets are dropped", func() { remote.DropIncoming(true) }, func() { remote.DropIncoming(false) }, nil, []string{"web"}},
		{"our link is down", func() { local.SetLink(false) }, func() { local.SetLink(true) }, nil, nil},
		{"the server's link is down", func() { remote.SetLink(false) }, func() { remote.SetLink(true) }, nil, nil},
		{
			"our address is replaced",
			func() { local.RemoveAddress(local.Addr) }, func() { local.AddAddress(netip.MustParseAddr("10.77.0.3")) }, nil, nil,
		},
	}
}

func TestNetwork_FaultsAreDetectedAndSurvivedNamespace(t *testing.T) {
	t.Parallel()
	s, all := newLANScenario(t)
	for _, m := range all {
		s.checkSurvived(m)
	}
	s.stop()
}

func TestNetwork_FaultsAreDetectedWithoutAClientNamespace(t *testing.T) {
	t.Parallel()
	s, all := newLANScenario(t)
	for _, m := range all {
		s.checkDetected(m)
	}
	s.stop()
}

// A silence that the service shows, as of a VPN that reconnects, breaks no established connection of ssh: plain ssh survives it too.
func TestNetwork_EstablishedSSHConnectionSurvivesASilenceNamespace(t *testing.T) {
	t.Parallel()
	local, remote := netns.NewHostPair(t)
	w := newTestEnv(t)
	host := sshd.StartOn(t, remote, remote.Addr.String())
	ports := map[string]int{"web": ports.FreePort(t)}
	s := startScenario(w, t, local, ports, sshConfig("web", ports["web"], host, serveOn(t, remote, "127.0.0.1:0", greetLines)))
	s.waitHealth(true, s.services(), "before the silence")
	dialed, err := local.Dial(fmt.Sprintf("127.0.0.1:%d", ports["web"]))
	if err != nil {
		t.Fatal(err)
	}
	conn := newConnection(t, dialed)
	conn.exchangeLine("one")
	remote.DropIncoming(true)
	s.waitHealth(false, s.services(), "packets are dropped")
	remote.DropIncoming(false)
	if got := conn.exchangeLine("two"); got != "hello two\n" {
		t.Errorf("got %q", got)
	}
	s.waitHealth(true, s.services(), "the silence is over")
	if got := conn.exchangeLine("three"); got != "hello three\n" {
		t.Errorf("got %q", got)
	}
	s.stop()
}

func TestNetwork_FaultBehindABastionIsDetectedAndSurvivedNamespace(t *testing.T) {
	t.Parallel()
	local, bastion := netns.NewHostPair(t)
	inner := bastion.AddHostBehind()
	w := newTestEnv(t)
	host := sshd.StartOn(t, inner, inner.Addr.String())
	bastionServer := host.StartAnotherOn(bastion, bastion.Addr.String())
	ports := map[string]int{"mail": ports.FreePort(t)}
	config := strings.Replace(sshConfig("mail", ports["mail"], host, serveBannerOn(t, inner, "127.0.0.1:0")),
		"connection = {", fmt.Sprintf("connection = { jump = \"%s@%s\",", bastionServer.User, bastionServer.Addr()), 1)
	s := startScenario(w, t, local, ports, config)
	for _, m := range []networkFault{
		{"the bastion is killed", bastionServer.Kill, bastionServer.Restart, nil, nil},
		{"the bastion is frozen", bastionServer.Freeze, bastionServer.Thaw, nil, nil},
		{"the server behind it is killed", host.Kill, host.Restart, nil, nil},
		{"packets are dropped behind it", func() { inner.DropIncoming(true) }, func() { inner.DropIncoming(false) }, nil, nil},
		{"the link behind it is down", func() { inner.SetLink(false) }, func() { inner.SetLink(true) }, nil, nil},
	} {
		s.checkSurvived(m)
	}
	s.stop()
}
