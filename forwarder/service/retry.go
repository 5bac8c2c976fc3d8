package service

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/localport-sh/localport/project"
)

// retryDelay is the time to wait before attempt number n+1, after n failures in a row: exponential, with up to a quarter taken
// off at random so that services that failed together do not come back together.
func retryDelay(p project.RestartPolicy, n int) time.Duration {
	if n < 1 {
		return 0
	}
	grown := float64(p.InitialDelay) * math.Pow(p.BackoffMultiplier, float64(n-1))
	full := time.Duration(min(grown, float64(p.MaxDelay)))
	if full < 4 {
		return full
	}
	return full - rand.N(full/4)
}
