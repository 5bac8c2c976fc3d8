package netmon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/netns"
)

func TestNamespace_EveryNetworkChangeIsReportedAndNothingElse(t *testing.T) {
	here, there := netns.NewHostPair(t)
	var s *eventSource
	here.RunInNamespace(func() {
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
		{"our link goes down", func() { here.SetLink(false) }},
		{"our link comes up", func() { here.SetLink(true) }},
		{"the other side's link goes down", func() { there.SetLink(false) }},
		{"the other side's link comes up", func() { there.SetLink(true) }},
		{"an address is added", func() { here.AddAddress(other) }},
		{"an address is removed", func() { here.RemoveAddress(other) }},
		{"a default route is added", func() { here.Run("ip", "route", "add", "default", "via", there.Addr.String()) }},
		{"a default route is removed", func() { here.Run("ip", "route", "del", "default") }},
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
	here.Run("ip", "route", "add", "10.99.0.0/16", "via", there.Addr.String())
	here.Run("ip", "neigh", "add", "10.77.0.50", "lladdr", "02:00:00:00:00:01", "dev", here.Link)
	here.Run("ip", "addr", "change", here.Addr.String()+"/24", "dev", here.Link, "valid_lft", "600", "preferred_lft", "600")
	drainEvents(seen)
	here.Run("ip", "addr", "change", here.Addr.String()+"/24", "dev", here.Link, "valid_lft", "900", "preferred_lft", "900")
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
