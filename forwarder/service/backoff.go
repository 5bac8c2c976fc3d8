package service

import (
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// retryDelay is the time to wait before attempt number n+1, after n failures in a row: exponential, with up to a quarter taken
// off at random so that services that failed together do not come back together.
func retryDelay(p project.RestartPolicy, n int) time.Duration {
	b := wait.Backoff{First: p.InitialDelay, Max: p.MaxDelay, Factor: p.BackoffMultiplier, Jitter: 0.25}
	return b.After(n)
}
