package service

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
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
	d.set("bastion", forwarder.Failed, waitingCh)
	first := d.firstUnready([]string{"bastion"})
	d.set("bastion", forwarder.Failed, waitingCh)
	if again := d.firstUnready([]string{"bastion"}); again != first {
		t.Errorf("without another attempt: %+v, was %+v", again, first)
	}
	d.set("bastion", forwarder.Restarting, waitingCh)
	d.set("bastion", forwarder.Failed, waitingCh)
	if second := d.firstUnready([]string{"bastion"}); second == first || second.state != forwarder.Failed {
		t.Errorf("after another attempt: %+v", second)
	}
}
