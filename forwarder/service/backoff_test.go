package service

import (
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRetryDelay_GrowsUpToItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := project.RestartPolicy{
			InitialDelay:      time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "initial")),
			BackoffMultiplier: rapid.Float64Range(1, 10).Draw(t, "multiplier"),
			MaxDelay:          time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "max")),
		}
		n := rapid.IntRange(1, 10000).Draw(t, "failures")
		got := retryDelay(policy, n)
		if got <= 0 || got > policy.MaxDelay {
			t.Fatalf("delay after %d failures of %+v: %v", n, policy, got)
		}
		if least := min(policy.InitialDelay, policy.MaxDelay) * 3 / 4; got < least {
			t.Fatalf("delay after %d failures of %+v: %v, less than %v", n, policy, got, least)
		}
	})
	if got := retryDelay(project.RestartPolicy{InitialDelay: time.Second}, 0); got != 0 {
		t.Errorf("without a failure: %v", got)
	}
}

func TestService_OutcomeDependsOnFailureClassAndPolicy(t *testing.T) {
	always := project.RestartPolicy{Enabled: true, InitialDelay: time.Second, BackoffMultiplier: 2, MaxDelay: time.Minute}
	thrice := always
	thrice.MaxAttempts = 3
	for name, c := range map[string]struct {
		policy   project.RestartPolicy
		class    forwarder.Class
		failures int
		want     event
	}{
		"transient":                  {always, forwarder.Transient, 100, eventRetryLater},
		"by attention":               {always, forwarder.NeedsUser, 1, eventNeedsAttention},
		"permanent":                  {always, forwarder.Permanent, 1, eventFailed},
		"attempts left":              {thrice, forwarder.Transient, 2, eventRetryLater},
		"attempts used":              {thrice, forwarder.Transient, 3, eventFailed},
		"restarts off":               {project.RestartPolicy{}, forwarder.Transient, 1, eventFailed},
		"restarts off, by attention": {project.RestartPolicy{}, forwarder.NeedsUser, 1, eventNeedsAttention},
	} {
		s := &Service{
			definition: Definition{Service: project.Service{RestartPolicy: c.policy}},
			attempts:   attemptHistory{failures: c.failures}, endCause: &forwarder.Failure{Class: c.class},
		}
		if got := s.outcome(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
