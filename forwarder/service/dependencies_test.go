package service

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// A reload that gives a service another port makes another Service of its name, while the first one still ends.
func TestDependencies_EndOfReplacedServiceKeepsStateOfItsReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		tunnel := newSlowClosingTunnel(5 * time.Second)
		old := startService(t, h, testServiceConfig("db"), checkSucceeds, func(int) (forwarder.Tunnel, error) { return tunnel, nil })
		old.requireState(t, forwarder.Healthy)
		ended := old.Stop()
		replacement := startService(t, h, testServiceConfig("db"), nil, openSucceeds)
		defer replacement.end()
		replacement.requireState(t, forwarder.Healthy)
		<-ended
		old.end()

		web := testServiceConfig("web")
		web.DependsOn = []string{"db"}
		w := startService(t, h, web, checkSucceeds, openSucceeds)
		defer w.end()
		w.requireState(t, forwarder.Healthy)
	})
}

// A dependency that was tried again and failed again meanwhile is told from one that was not: clients that wait for it are reset.
func TestDependencies_SecondFailureDiffersFromTheFirst(t *testing.T) {
	d, waitingCh := NewDependencies(), make(chan struct{}, 1)
	d.add("bastion", waitingCh)
	d.set(dependency{name: "bastion", state: forwarder.Failed}, waitingCh)
	first := d.firstUnready([]string{"bastion"})
	d.set(dependency{name: "bastion", state: forwarder.Failed}, waitingCh)
	if again := d.firstUnready([]string{"bastion"}); again != first {
		t.Errorf("without another attempt: %+v, was %+v", again, first)
	}
	d.set(dependency{name: "bastion", state: forwarder.Restarting}, waitingCh)
	d.set(dependency{name: "bastion", state: forwarder.Failed}, waitingCh)
	if second := d.firstUnready([]string{"bastion"}); second == first || second.state != forwarder.Failed {
		t.Errorf("after another attempt: %+v", second)
	}
}

// A chain of dependencies names the service at its end, with that one's own hint.
func TestDependencies_ChainNamesTheCulprit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHost()
		heal := make(chan struct{})
		vpn := startService(t, h, testServiceConfig("vpn"), checkSucceeds, func(n int) (forwarder.Tunnel, error) {
			if wait.IsClosed(heal) {
				return newScriptedTunnel(), nil
			}
			return nil, &forwarder.Failure{Class: forwarder.NeedsUser, Reason: "a code is needed", Hint: "run localport login"}
		})
		defer vpn.end()
		bastion, web := testServiceConfig("bastion"), testServiceConfig("web")
		bastion.DependsOn, web.DependsOn = []string{"vpn"}, []string{"bastion"}
		b := startService(t, h, bastion, checkSucceeds, openSucceeds)
		defer b.end()
		w := startService(t, h, web, checkSucceeds, openSucceeds)
		defer w.end()
		w.requireState(t, forwarder.Failed)
		if want := `depends on "bastion", which has failed because of "vpn", which needs attention`; w.lastError() != want || w.Snapshot().Hint != "vpn: run localport login" {
			t.Errorf("web says %q, hint %q", w.lastError(), w.Snapshot().Hint)
		}
		if want := `depends on "vpn", which needs attention`; b.lastError() != want || b.Snapshot().Hint != "vpn: run localport login" {
			t.Errorf("bastion says %q, hint %q", b.lastError(), b.Snapshot().Hint)
		}
		close(heal)
		vpn.Restart(time.Time{})
		w.requireState(t, forwarder.Healthy)
		if w.lastError() != "" || w.Snapshot().Hint != "" {
			t.Errorf("in the end web says %q, hint %q", w.lastError(), w.Snapshot().Hint)
		}
	})
}
