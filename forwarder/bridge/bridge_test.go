package bridge

import (
	"net/netip"
	"strings"
	"testing"
)

func addrs(texts ...string) (addrs []netip.Addr) {
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs
}

func TestChoose(t *testing.T) {
	links := []link{
		{name: "lo", addrs: addrs("127.0.0.1", "::1")},
		{name: "eth0", addrs: addrs("192.168.1.5")},
		{name: "br0", isBridge: true, uplink: "eth1", addrs: addrs("192.168.2.5")},
		{name: "podman0", isBridge: true, addrs: addrs("fe80::1", "fd00::1", "10.88.0.1")},
		{name: "br-1f", isBridge: true, addrs: addrs("fe80::1", "fd00::2")},
		{name: "br-public", isBridge: true, addrs: addrs("203.0.113.1")},
		{name: "br-empty", isBridge: true},
	}
	for _, test := range []struct{ bridge, want, reason string }{
		{Auto, "10.88.0.1", ""},
		{"br-1f", "fd00::2", ""},
		{"10.88.0.1", "10.88.0.1", ""},
		{"docker0", "", `there is no network interface "docker0"`},
		{"10.1.1.1", "", "no network interface has the address 10.1.1.1"},
		{"eth0", "", `"eth0" is not a bridge`},
		{"192.168.1.5", "", `"eth0" is not a bridge`},
		{"br0", "", `the bridge "br0" has the port "eth1"`},
		{"192.168.2.5", "", `the bridge "br0" has the port "eth1"`},
		{"br-public", "", `the bridge "br-public" has no private address`},
		{"br-empty", "", `the bridge "br-empty" has no private address`},
	} {
		addr, err := choose(links, test.bridge)
		if test.reason == "" && (err != nil || addr.String() != test.want) || test.reason != "" && (err == nil || !strings.HasPrefix(err.Error(), test.reason)) {
			t.Errorf("%s: got %v, %v", test.bridge, addr, err)
		}
	}
	if _, err := choose(links[:3], Auto); err == nil || !strings.HasPrefix(err.Error(), "no bridge of docker") {
		t.Errorf("without a container engine: %v", err)
	}
}
