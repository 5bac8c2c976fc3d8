package netmon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/netns"
)

func TestNamespace_EveryNetworkChangeIsReportedAndNothingElse(t *testing.T) {
	local, peer := netns.NewHostPair(t)
	var s *eventSource
	local.RunInNamespace(func() {
		var err error
		if s, err = openSource(); err != nil {
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
		_ = s.readEvents(func() { seen <- struct{}{} })
	}()
	defer func() { _ = s.close(); <-ended }()
	other := netip.MustParseAddr("10.77.0.9")
	for _, change := range []struct {
		name  string
		apply func()
	}{
		{"our link goes down", func() { local.SetLink(false) }},
		{"our link comes up", func() { local.SetLink(true) }},
		{"the other side's link goes down", func() { peer.SetLink(false) }},
		{"the other side's link comes up", func() { peer.SetLink(true) }},
		{"an address is added", func() { local.AddAddress(other) }},
		{"an address is removed", func() { local.RemoveAddress(other) }},
		{"a default route is added", func() { local.Run("ip", "route", "add", "default", "via", peer.Addr.String()) }},
		{"a default route is removed", func() { local.Run("ip", "route", "del", "default") }},
	} {
		change.apply()
		select {
		case <-seen:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not reported", change.name)
		}
		drainEvents(seen)
	}
	// These are no changes: a renewed lifetime, a route that is not a default route, a neighbour.
	local.Run("ip", "route", "add", "10.99.0.0/16", "via", peer.Addr.String())
	local.Run("ip", "neigh", "add", "10.77.0.50", "lladdr", "02:00:00:00:00:01", "dev", local.Link)
	local.Run("ip", "addr", "change", local.Addr.String()+"/24", "dev", local.Link, "valid_lft", "600", "preferred_lft", "600")
	drainEvents(seen)
	local.Run("ip", "addr", "change", local.Addr.String()+"/24", "dev", local.Link, "valid_lft", "900", "preferred_lft", "900")
	if n := drainEvents(seen); n > 0 {
		t.Errorf("%d reports without a change", n)
	}
}

// drainEvents receives events until there was none for 1.2 s: the kernel delays carrier events by up to a second.
func drainEvents(seen <-chan struct{}) (n int) {
	for {
		select {
		case <-seen:
			n++
		case <-time.After(1200 * time.Millisecond):
			return n
		}
	}
}
