package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/testdata/netns"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// on has the world's localport run on a host of its own.
func (w *world) on(h *netns.Host) {
	w.t.Helper()
	script := filepath.Join(w.home, "localport")
	text := "#!/bin/sh\nexec " + strings.Join(h.Argv(w.exe), " ") + " \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.exe = script
}

// bannerOn is a server of banner's kind on a host.
func bannerOn(t *testing.T, h *netns.Host, addr string) int {
	t.Helper()
	l, err := h.Listen(addr)
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
			fmt.Fprintln(conn, "220 ready")
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

// reached is a service that is reached without a tunnel. Further keys may follow.
func reached(name string, port int, host netip.Addr, remote int) string {
	return fmt.Sprintf("[services.%s]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %d\nconnection = { remote_host = %q }\n",
		name, port, remote, host)
}

// faultTimeout is what a mishap may take to be noticed, and its end to be used. Both take some seconds; the machine may be busy.
const faultTimeout = 20 * time.Second

// networkFault is something that happens to a network or to what is at its other end.
type networkFault struct {
	name        string
	begin, mend func()
	spares      []string // services that it does not touch
	hides       []string // services that notice it only when a client comes
}

// networkScenario is a project whose supervisor runs on a host of its own.
type networkScenario struct {
	*world
	t     *testing.T
	here  *netns.Host
	root  string
	ports map[string]int // of its services
}

// play starts a project on a host.
func play(w *world, t *testing.T, here *netns.Host, ports map[string]int, config string) *networkScenario {
	t.Helper()
	w.on(here)
	s := &networkScenario{world: w, t: t, here: here, root: w.allowedProject(config), ports: ports}
	w.mustRun(s.root, "start")
	return s
}

// all are the services, and touched those that are to notice a mishap.
func (s *networkScenario) all() []string { return slices.Sorted(maps.Keys(s.ports)) }

func (s *networkScenario) touched(m networkFault) []string {
	return slices.DeleteFunc(s.all(), func(name string) bool { return slices.Contains(m.spares, name) })
}

// become waits until services are, or are not, healthy, and prints how long that took and what status has to say. It asks as
// the status command does, and spares the machine a process for each look.
func (s *networkScenario) become(healthy bool, names []string, when string) {
	s.t.Helper()
	supervisor := client.Client{Socket: s.state(s.root).Supervisor.Socket}
	began := time.Now()
	left := slices.Clone(names)
	eventually(s.t, fmt.Sprintf("%s: healthy is %v: %v", when, healthy, names), func() bool {
		status, err := supervisor.Status(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, svc := range status.Services {
			if at := slices.Index(left, svc.Name); at >= 0 && (svc.State == forwarder.Healthy) == healthy {
				left = slices.Delete(left, at, at+1)
				s.inTime(time.Since(began), fmt.Sprintf("%s: %s is %s %s", when, svc.Name, svc.State, svc.LastError))
			}
		}
		return len(left) == 0
	})
}

// inTime prints how long something took, and fails the test if that was too long.
func (s *networkScenario) inTime(took time.Duration, what string) {
	s.t.Helper()
	s.t.Logf("%4.1f s: %s", took.Seconds(), what)
	if took > faultTimeout {
		s.t.Errorf("%s: that took more than %v", what, faultTimeout)
	}
}

// connect opens a connection to a service, which must be let in. What comes of it is sent.
func (s *networkScenario) connect(name string) <-chan string {
	s.t.Helper()
	conn, err := s.here.Dial(fmt.Sprintf("127.0.0.1:%d", s.ports[name]))
	if err != nil {
		s.t.Fatalf("the port of %s is closed: %v", name, err)
	}
	answer := make(chan string, 1)
	go func() {
		defer conn.Close()
		got, err := io.ReadAll(conn)
		answer <- fmt.Sprintf("%q %v", got, err)
	}()
	return answer
}

// noticed checks that a mishap is noticed with nobody there, and its end too.
func (s *networkScenario) noticed(m networkFault) {
	s.t.Helper()
	m.spares = slices.Concat(m.spares, m.hides)
	s.become(true, s.all(), "before "+m.name)
	m.begin()
	s.become(false, s.touched(m), m.name)
	m.mend()
	s.become(true, s.touched(m), m.name+" no more")
}

// outlived checks that clients who come while a mishap lasts are let in, and get through after it.
func (s *networkScenario) outlived(m networkFault) {
	s.t.Helper()
	s.become(true, s.all(), "before "+m.name)
	m.begin()
	answers := map[string]<-chan string{}
	for _, name := range s.touched(m) {
		answers[name] = s.connect(name)
	}
	s.become(false, s.touched(m), m.name)
	m.mend()
	mended := time.Now()
	for _, name := range s.touched(m) {
		got := <-answers[name]
		s.inTime(time.Since(mended), fmt.Sprintf("%s no more: who waited for %s got %s", m.name, name, got))
		if got != `"220 ready\n" <nil>` {
			s.t.Errorf("%s: who waited for %s got %s", m.name, name, got)
		}
	}
}

// end checks that nothing is left of the project when it is stopped.
func (s *networkScenario) end() {
	s.t.Helper()
	supervisor := s.supervisor(s.root)
	children := childrenOf(s.t, supervisor.PID)
	s.mustRun(s.root, "stop")
	s.waitExit(supervisor)
	for _, child := range children {
		s.waitExit(child)
	}
	s.nothingLeft(s.root)
}

// newLAN is a project with a service through an sshd on the next host, mail, and two that are reached without: web, which is
// checked every 30 s, so that it is the watch over the network that notices, or a client, and api, which is checked often,
// because of silence nothing else tells. All that may happen between the two hosts comes with it.
func newLAN(t *testing.T) (s *networkScenario, all []networkFault) {
	t.Helper()
	here, there := netns.NewHostPair(t)
	w := newWorld(t)
	host := sshd.StartOn(t, there, there.Addr.String())
	ports := map[string]int{"mail": ports.FreePort(t), "web": ports.FreePort(t), "api": ports.FreePort(t)}
	s = play(w, t, here, ports, sshConfig("mail", ports["mail"], host, bannerOn(t, there, "127.0.0.1:0"))+
		reached("web", ports["web"], there.Addr, bannerOn(t, there, there.Addr.String()+":0"))+
		reached("api", ports["api"], there.Addr, bannerOn(t, there, there.Addr.String()+":0"))+
		"health_check = { interval = \"5s\" }\n")
	tcp := []string{"api", "web"}
	return s, []networkFault{
		{"the server is killed", host.Kill, host.Restart, tcp, nil},
		{"the server is frozen", host.Freeze, host.Thaw, tcp, nil},
		{"the server is frozen and never wakes", host.Freeze, host.Restart, tcp, nil},
		{"packets are lost in silence", func() { there.DropIncoming(true) }, func() { there.DropIncoming(false) }, nil, []string{"web"}},
		{"our link is down", func() { here.SetLink(false) }, func() { here.SetLink(true) }, nil, nil},
		{"the server's link is down", func() { there.SetLink(false) }, func() { there.SetLink(true) }, nil, nil},
		{
			"our address goes, and another comes",
			func() { here.RemoveAddress(here.Addr) }, func() { here.AddAddress(netip.MustParseAddr("10.77.0.3")) }, nil, nil,
		},
	}
}

func TestNetwork_FaultsAreDetectedAndSurvivedNamespace(t *testing.T) {
	t.Parallel()
	s, all := newLAN(t)
	for _, m := range all {
		s.outlived(m)
	}
	s.end()
}

func TestNetwork_FaultsAreDetectedWithoutAClientNamespace(t *testing.T) {
	t.Parallel()
	s, all := newLAN(t)
	for _, m := range all {
		s.noticed(m)
	}
	s.end()
}

func TestNetwork_FaultBehindABastionIsDetectedAndSurvivedNamespace(t *testing.T) {
	t.Parallel()
	here, bastion := netns.NewHostPair(t)
	inner := bastion.AddHostBehind()
	w := newWorld(t)
	host := sshd.StartOn(t, inner, inner.Addr.String())
	door := host.StartAnotherOn(bastion, bastion.Addr.String())
	ports := map[string]int{"mail": ports.FreePort(t)}
	config := strings.Replace(sshConfig("mail", ports["mail"], host, bannerOn(t, inner, "127.0.0.1:0")),
		"connection = {", fmt.Sprintf("connection = { jump = \"%s@%s\",", door.User, door.Addr()), 1)
	s := play(w, t, here, ports, config)
	for _, m := range []networkFault{
		{"the bastion is killed", door.Kill, door.Restart, nil, nil},
		{"the bastion is frozen", door.Freeze, door.Thaw, nil, nil},
		{"the server behind it is killed", host.Kill, host.Restart, nil, nil},
		{"packets are lost in silence behind it", func() { inner.DropIncoming(true) }, func() { inner.DropIncoming(false) }, nil, nil},
		{"the link behind it is down", func() { inner.SetLink(false) }, func() { inner.SetLink(true) }, nil, nil},
	} {
		s.outlived(m)
	}
	s.end()
}
