package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/testdata/netns"
	"github.com/localport-sh/localport/testdata/ports"
)

const dockerBridge = "docker0"

var dockerAddr = netip.MustParseAddr("172.17.0.1")

// dockerScenario is a project on a host with a container engine: containers may connect to web, not to api.
type dockerScenario struct {
	*networkScenario
	containers int
}

func newDockerScenario(t *testing.T) *dockerScenario {
	t.Helper()
	host := netns.NewHost(t)
	w := newTestEnv(t)
	backend := serveBannerOn(t, host, "127.0.0.1:0")
	ports := map[string]int{"web": ports.FreePort(t), "api": ports.FreePort(t)}
	return &dockerScenario{networkScenario: startScenario(w, t, host, ports, directConfig("web", ports["web"], netip.MustParseAddr("127.0.0.1"), backend)+
		"bridge = \"auto\"\n"+directConfig("api", ports["api"], netip.MustParseAddr("127.0.0.1"), backend))}
}

// startDocker makes the bridge, and returns a container.
func (s *dockerScenario) startDocker(addr netip.Addr) *netns.Host {
	s.t.Helper()
	s.host.AddBridge(dockerBridge, addr)
	s.containers++
	return s.host.AddContainer(dockerBridge, fmt.Sprintf("port%d", s.containers), addr.Next())
}

// waitBridge waits until containers can connect to web at an address; empty: nowhere.
func (s *dockerScenario) waitBridge(addr string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("containers connect at %q", addr), func() bool {
		bridge := s.service(s.root, "web").Bridge
		return bridge != nil && bridge.Address == addr && (addr != "") == (bridge.Reason == "")
	})
}

func (s *dockerScenario) webAddr(host netip.Addr) string {
	return netip.AddrPortFrom(host, uint16(s.ports["web"])).String()
}

// readBanner connects from a container and returns what the server sends.
func readBanner(container *netns.Host, addr string) (string, error) {
	conn, err := container.Dial(addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	banner, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return banner, fmt.Errorf("%w: %w", errConnectionEnded, err)
	}
	return banner, nil
}

// errConnectionEnded is the error of readBanner for a connection that was established.
var errConnectionEnded = errors.New("the connection ended before the banner")

func (s *dockerScenario) checkAnswered(container *netns.Host, addr string) {
	s.t.Helper()
	if got, err := readBanner(container, addr); got != "220 ready\n" {
		s.t.Errorf("from the container: %q, %v", got, err)
	}
}

func TestBridge_IsFollowedAndItsContainersConnectNamespace(t *testing.T) {
	t.Parallel()
	s := newDockerScenario(t)
	s.waitBridge("")
	if o := s.localport(s.root, "env", "--format", "docker"); o.code != 1 || strings.Contains(o.stdout, "WEB_") ||
		!strings.Contains(o.stderr, `no variables for service "web", which has no address for containers: no bridge of docker, podman or nerdctl was found`) {
		t.Errorf("without a bridge, env prints %+v", o)
	}
	if out := s.mustRun(s.root, "status"); !strings.Contains(out, "warning: containers cannot connect to web: no bridge of docker") {
		t.Errorf("without a bridge, status prints %s", out)
	}

	container := s.startDocker(dockerAddr)
	s.waitBridge(s.webAddr(dockerAddr))
	s.checkAnswered(container, s.webAddr(dockerAddr))
	other := netip.MustParseAddr("172.17.0.77")
	s.host.Run("ip", "addr", "add", other.String()+"/24", "dev", dockerBridge)
	for _, addr := range []string{s.webAddr(other), fmt.Sprintf("%v:%d", dockerAddr, s.ports["api"])} {
		if _, err := readBanner(container, addr); err == nil {
			t.Errorf("%s accepts connections", addr)
		}
	}
	o := s.localport(s.root, "env", "--format", "docker")
	if want := fmt.Sprintf("WEB_HOST=172.17.0.1\nWEB_PORT=%d\n", s.ports["web"]); o.code != 0 || !strings.Contains(o.stdout, want) ||
		!strings.Contains(o.stderr, `a container reaches api only with --network host`) || !strings.Contains(o.stderr, `write bridge = "auto" in [services.api]`) {
		t.Errorf("env prints %+v", o)
	}
	if out := s.mustRun(s.root, "status"); !strings.Contains(out, "containers connect to web at "+s.webAddr(dockerAddr)) {
		t.Errorf("status prints %s", out)
	}

	s.host.RemoveBridge(dockerBridge)
	s.waitBridge("")
	for _, addr := range []string{"172.18.0.1", "172.17.0.1"} { // docker chooses another if there was a conflict
		addr := netip.MustParseAddr(addr)
		container := s.startDocker(addr)
		s.waitBridge(s.webAddr(addr))
		s.checkAnswered(container, s.webAddr(addr))
		s.host.RemoveBridge(dockerBridge)
	}
	s.stop()
}

// While the supervisor is replaced or killed, a container's connection waits in the queue of the keeper's copy. Only a connection that a
// supervisor has accepted when it is killed ends with it; the clients connect one after the other, so that there is one at most.
func TestBridge_ContainersAreNotRefusedByAHandoverNamespace(t *testing.T) {
	t.Parallel()
	s := newDockerScenario(t)
	container := s.startDocker(dockerAddr)
	s.waitBridge(s.webAddr(dockerAddr))
	for name, test := range map[string]struct {
		replace  func()
		maxEnded int
	}{
		"daemon restart": {replace: func() { s.mustRun(s.root, "daemon", "restart") }},
		"a killed supervisor": {maxEnded: 1, replace: func() {
			killed := s.supervisor(s.root)
			if err := syscall.Kill(killed.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			s.waitExit(killed)
			eventually(t, "another supervisor runs", func() bool {
				now := s.state(s.root).Supervisor
				return now != nil && now.Process != killed && now.IsAlive()
			})
		}},
		"another elected supervisor": {replace: func() {
			superseded := s.supervisor(s.root)
			_, resume := s.supersede(t, s.root)
			resume()
			s.waitExit(superseded)
		}},
	} {
		stopCh, failedCh := make(chan struct{}), make(chan error, 1)
		var clients sync.WaitGroup
		clients.Go(func() {
			for ended := 0; ; {
				got, err := readBanner(container, s.webAddr(dockerAddr))
				if errors.Is(err, errConnectionEnded) && got == "" && ended < test.maxEnded {
					ended++
				} else if err != nil || got != "220 ready\n" {
					failedCh <- fmt.Errorf("%q, %w", got, err)
					return
				}
				select {
				case <-stopCh:
					return
				default:
				}
			}
		})
		test.replace()
		s.waitBridge(s.webAddr(dockerAddr))
		close(stopCh)
		clients.Wait()
		select {
		case err := <-failedCh:
			t.Errorf("%s: a container's client got %v", name, err)
		default:
		}
	}
	s.stop()
}

// A reload that only opens or closes the address for containers leaves the tunnel and its connections alone.
func TestBridge_ReloadKeepsTheTunnelNamespace(t *testing.T) {
	t.Parallel()
	s := newDockerScenario(t)
	container := s.startDocker(dockerAddr)
	s.waitBridge(s.webAddr(dockerAddr))
	tunnelSince := s.service(s.root, "web").UpSince
	for _, change := range [][2]string{{"auto", "none"}, {"none", "docker0"}, {"docker0", "172.17.0.1"}} {
		config, err := os.ReadFile(filepath.Join(s.root, ".localport.toml"))
		if err != nil {
			t.Fatal(err)
		}
		s.writeFile(s.root, ".localport.toml", strings.Replace(string(config), fmt.Sprintf("bridge = %q", change[0]), fmt.Sprintf("bridge = %q", change[1]), 1))
		s.mustRun(s.root, "allow")
		s.mustRun(s.root, "daemon", "reload")
		if change[1] != "none" {
			s.waitBridge(s.webAddr(dockerAddr))
			s.checkAnswered(container, s.webAddr(dockerAddr))
			continue
		}
		eventually(t, "containers cannot connect", func() bool {
			_, err := readBanner(container, s.webAddr(dockerAddr))
			return err != nil && s.service(s.root, "web").Bridge == nil
		})
	}
	if now := s.service(s.root, "web"); now.UpSince == nil || tunnelSince == nil || !now.UpSince.Equal(*tunnelSince) {
		t.Errorf("the tunnel was replaced: up since %v, before %v", now.UpSince, tunnelSince)
	}
	s.mustRun(s.root, "stop", "web")
	for _, addr := range []string{s.webAddr(dockerAddr), fmt.Sprintf("127.0.0.1:%d", s.ports["web"])} {
		if conn, err := s.host.Dial(addr); err == nil {
			conn.Close()
			t.Errorf("after stop, %s accepts connections", addr)
		}
	}
	s.stop()
}
