package service

import (
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// retryDelay is the delay after n failures in a row: exponential, less a random part of up to a quarter, so that services that failed
// together do not retry together.
func retryDelay(p project.RestartPolicy, n int) time.Duration {
	b := wait.Backoff{First: p.InitialDelay, Max: p.MaxDelay, Factor: p.BackoffMultiplier, Jitter: 0.25}
	return b.After(n)
}
