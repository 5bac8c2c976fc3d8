package netmon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/netns"
)

func TestNamespaceEveryChangeOfANetworkIsSeenAndNothingElse(t *testing.T) {
	here, there := netns.Pair(t)
	var s *source
	here.Do(func() {
		var err error
		if s, err = open(); err != nil {
			t.Error(err)
		}
	})
	if s == nil {
		return
	}
	seen := make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.read(func() { seen <- struct{}{} })
	}()
	defer func() { _ = s.close(); <-ended }()
	other := netip.MustParseAddr("10.77.0.9")
	for _, change := range []struct {
		name string
		make func()
	}{
		{"our link goes down", func() { here.SetLink(false) }},
		{"our link comes up", func() { here.SetLink(true) }},
		{"the other side's link goes down", func() { there.SetLink(false) }},
		{"the other side's link comes up", func() { there.SetLink(true) }},
		{"an address comes", func() { here.AddAddress(other) }},
		{"an address goes", func() { here.RemoveAddress(other) }},
		{"a default route comes", func() { here.Run("ip", "route", "add", "default", "via", there.Addr.String()) }},
		{"a default route goes", func() { here.Run("ip", "route", "del", "default") }},
	} {
		change.make()
		select {
		case <-seen:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not seen", change.name)
		}
		calm(seen)
	}
	// What changes nothing: a lifetime that is renewed, a route to somewhere, a neighbour.
	here.Run("ip", "route", "add", "10.99.0.0/16", "via", there.Addr.String())
	here.Run("ip", "neigh", "add", "10.77.0.50", "lladdr", "02:00:00:00:00:01", "dev", here.Link)
	here.Run("ip", "addr", "change", here.Addr.String()+"/24", "dev", here.Link, "valid_lft", "600", "preferred_lft", "600")
	calm(seen)
	here.Run("ip", "addr", "change", here.Addr.String()+"/24", "dev", here.Link, "valid_lft", "900", "preferred_lft", "900")
	if n := calm(seen); n > 0 {
		t.Errorf("%d words of nothing", n)
	}
}

// calm takes what is told until nothing was for longer than the kernel holds the news of a carrier back, which is a second.
func calm(seen <-chan struct{}) (n int) {
	for {
		select {
		case <-seen:
			n++
		case <-time.After(1200 * time.Millisecond):
			return n
		}
	}
}
