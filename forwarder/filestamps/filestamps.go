// Package filestamps tells whether files have changed since a moment. A failure that rests on files, such as a kubeconfig or a key, is
// tried again when one of them has changed.
package filestamps

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
)

// Stamps are files as they were at a moment.
type Stamps map[target]stamp

// target is what is watched: a file, or all files that match a pattern.
type target struct {
	path      string
	isPattern bool
}

// stamp tells a file from a later version of it. The zero value stands for a file that does not exist or cannot be reached.
type stamp struct {
	modTime time.Time
	size    int64
	mode    os.FileMode // chmod and chown change neither time nor size
	uid     uint32
	gid     uint32
	matches string // of a pattern: the files and their stamps
}

// Of returns the stamps of files as they are now. Links are followed. Empty paths are ignored.
func Of(paths ...string) Stamps {
	stamps := make(Stamps, len(paths))
	for _, path := range paths {
		if path != "" {
			stamps[target{path: path}] = stampOf(path)
		}
	}
	return stamps
}

// AddMatches adds the regular files that match patterns (see filepath.Match) now. A file that begins to match is a change.
func (s Stamps) AddMatches(patterns ...string) {
	for _, pattern := range patterns {
		t := target{path: pattern, isPattern: true}
		s[t] = t.stamp()
	}
}

func (t target) stamp() stamp {
	if !t.isPattern {
		return stampOf(t.path)
	}
	var text strings.Builder
	paths, _ := filepath.Glob(t.path)
	for _, path := range paths {
		now := stampOf(path)
		if !now.mode.IsRegular() {
			continue // sockets of programs come and go in a directory
		}
		fmt.Fprintf(&text, "%q %d %d %v %d %d\n", path, now.modTime.UnixNano(), now.size, now.mode, now.uid, now.gid)
	}
	return stamp{matches: text.String()}
}

// stampOf uses neither the time of the last change of the inode (ctime), which a program may move by a chmod to the same mode, nor the
// inode's number, which some network file systems assign again and again: a change that is none would make an attempt follow another.
func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	now := stamp{modTime: info.ModTime(), size: info.Size(), mode: info.Mode()}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		now.uid, now.gid = owner.Uid, owner.Gid
	}
	if info.Mode()&os.ModeDevice != 0 {
		now.modTime = time.Time{} // those of a terminal or /dev/null say nothing about a change
	}
	return now
}

// Restamp returns the stamps of the same files and patterns as they are now.
func (s Stamps) Restamp() Stamps {
	now := make(Stamps, len(s))
	for t := range s {
		now[t] = t.stamp()
	}
	return now
}

// HaveChanged reports whether a file was written, created, removed or given another owner or mode since then.
func (s Stamps) HaveChanged() bool {
	for t, before := range s {
		if t.stamp() != before {
			return true
		}
	}
	return false
}

// checkInterval is the time between checks while something waits for a change. They are stat calls: files on other machines and in mounted
// secrets send no event.
const checkInterval = 2 * time.Second

// AwaitChange waits until HaveChanged. It returns false when ctx ends.
func (s Stamps) AwaitChange(ctx context.Context) bool {
	for !s.HaveChanged() {
		if !wait.Sleep(ctx, checkInterval) {
			return false
		}
	}
	return true
}
