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
