package service

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// An ssh that several services share may report for an attempt while that attempt ends, or when the next one is in progress.
func TestService_IgnoresProgressOfAnAttemptThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		maskingCh, continueCh := make(chan struct{}), make(chan struct{})
		host := testHost()
		host.Mask = func(text string) string {
			if text == "late" { // the attempt ends between its report and the change of the text
				close(maskingCh)
				<-continueCh
			}
			return text
		}
		driver := &scriptedDriver{}
		s := newTestService(t, host, testServiceConfig("db"), checkSucceeds, driver)
		defer s.end()
		checkProgress := func(want string) {
			t.Helper()
			if got := s.Progress(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		var first forwarder.Run
		driver.open = func(n int) (forwarder.Tunnel, error) {
			if n == 1 {
				first = driver.run
				first.ReportProgress("logging in")
				checkProgress("logging in")
				go first.ReportProgress("late")
				<-maskingCh
				return openFails(n)
			}
			driver.run.ReportProgress("logging in again")
			first.ReportProgress("of the first attempt")
			checkProgress("logging in again")
			return openSucceeds(n)
		}
		s.Start(StartOptions{})
		synctest.Wait()
		s.requireState(t, forwarder.Restarting)
		close(continueCh)
		synctest.Wait()
		checkProgress("")
		time.Sleep(2 * time.Second)
		s.requireState(t, forwarder.Healthy)
		checkProgress("")
	})
}
