package lockstate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// projectKind tells whether the directory's project exists; view is where it was last used.
func (d *Dir) projectKind(view string) (kind DirKind, reason string) {
	if !filepath.IsAbs(d.Config) {
		return DirUnknown, "its config has no absolute path"
	}
	_, err := os.Lstat(d.Config)
	switch {
	case err == nil:
		return DirIdle, ""
	case !isAbsent(err):
		return DirUnknown, err.Error()
	case view != "" && view != ownHostID():
		return DirUnknown, "it was used on another machine or in a container"
	}
	existing, err := nearestExisting(d.Config)
	switch {
	case err != nil:
		return DirUnknown, err.Error()
	case isUnderMountParent(existing) || mayBeEmptyMountPoint(existing, d.createdAt()):
		return DirUnknown, existing + " may be where a disk is mounted at times"
	}
	return DirOrphaned, d.Config + " does not exist"
}

// createdAt returns when the state directory was made: nothing is ever written to its lock file.
func (d *Dir) createdAt() time.Time {
	info, err := os.Stat(d.path(lockName))
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

// nearestExisting returns the nearest directory above a path that exists.
func nearestExisting(path string) (string, error) {
	for {
		path = filepath.Dir(path)
		_, err := os.Stat(path)
		if !isAbsent(err) || path == "/" {
			return path, err
		}
	}
}

// mountParents are where systems mount removable disks and network file systems, each in a directory that may exist only meanwhile.
var mountParents = []string{"/media", "/mnt", "/run/media", "/Volumes", "/net", "/misc", "/nfs", "/autofs"}

// isUnderMountParent reports whether a directory is in one of mountParents, and not on a disk that is mounted there.
func isUnderMountParent(dir string) bool {
	return slices.ContainsFunc(mountParents, func(parent string) bool {
		isBelow := dir == parent || strings.HasPrefix(dir, parent+"/")
		return isBelow && (isOnSameDevice(dir, parent) || isOnSameDevice(dir, filepath.Dir(parent)))
	})
}

func isOnSameDevice(a, b string) bool {
	var stats [2]syscall.Stat_t
	return syscall.Stat(a, &stats[0]) == nil && syscall.Stat(b, &stats[1]) == nil && stats[0].Dev == stats[1].Dev
}

// mayBeEmptyMountPoint reports whether something that is not mounted now may belong into a directory: it is empty, and nothing has been removed from
// it since a time at which the project existed.
func mayBeEmptyMountPoint(dir string, then time.Time) bool {
	file, err := os.Open(dir)
	if err != nil {
		return true
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return true
	}
	_, err = file.ReadDir(1)
	return err != nil && !info.ModTime().After(then)
}
