package bridge

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/netns"
)

// A bridge with containers is told from one that is connected to other machines too.
func TestFind_RefusesABridgeThatLeadsToOtherMachinesNamespace(t *testing.T) {
	host := netns.NewHost(t)
	addr := netip.MustParseAddr("172.17.0.1")
	host.AddBridge("docker0", addr)
	host.AddContainer("docker0", "port", netip.MustParseAddr("172.17.0.2"))
	find := func(bridge string) (got netip.Addr, err error) {
		host.RunInNamespace(func() { got, err = Find(bridge) })
		return got, err
	}
	for _, bridge := range []string{Auto, "docker0", "172.17.0.1"} {
		if got, err := find(bridge); got != addr || err != nil {
			t.Errorf("%s: got %v, %v", bridge, got, err)
		}
	}
	if _, err := find("port"); err == nil || !strings.Contains(err.Error(), "not a bridge") {
		t.Errorf("a port of the bridge: %v", err)
	}
	host.Run("ip", "link", "add", "tunnel", "type", "vxlan", "id", "7", "dstport", "4789")
	host.ConnectToBridge("docker0", "tunnel")
	for _, bridge := range []string{Auto, "docker0", "172.17.0.1"} {
		if _, err := find(bridge); err == nil || !strings.Contains(err.Error(), `has the port "tunnel"`) {
			t.Errorf("%s with a tunnel: %v", bridge, err)
		}
	}
}
