// Package filestamps tells whether files have changed since a moment. A failure that rests on files, such as a kubeconfig or a key, is
// tried again when one of them has changed.
package filestamps

import (
	"context"
	"os"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// Stamps are files as they were at a moment.
type Stamps map[string]stamp

// stamp tells a file from a later version of it. The zero value stands for a file that does not exist or cannot be reached.
type stamp struct {
	modTime time.Time
	size    int64
}

// Of returns the stamps of files as they are now. Links are followed. Empty paths are ignored.
func Of(paths ...string) Stamps {
	stamps := make(Stamps, len(paths))
	for _, path := range paths {
		if path != "" {
			stamps[path] = stampOf(path)
		}
	}
	return stamps
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

// HaveChanged reports whether a file was written, created or removed since then.
func (s Stamps) HaveChanged() bool {
	for path, before := range s {
		if stampOf(path) != before {
			return true
		}
	}
	return false
}

// checkInterval is the time between checks while something waits for a change. They are stat calls: files on other machines and in mounted
// secrets send no event.
const checkInterval = 2 * time.Second

// AwaitChange waits until a file was written, created or removed since then. It returns false when ctx ends.
func (s Stamps) AwaitChange(ctx context.Context) bool {
	for !s.HaveChanged() {
		if !wait.Sleep(ctx, checkInterval) {
			return false
		}
	}
	return true
}
