package cluster

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// AcquireLock waits until no other process of this machine tests with a cluster: two at the same time are too slow on a small machine.
// The caller calls release after its tests; the lock is also released when the process ends.
func AcquireLock(ctx context.Context) (release func(), err error) {
	programs, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(programs), 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(filepath.Dir(programs), "cluster.lock"))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}
