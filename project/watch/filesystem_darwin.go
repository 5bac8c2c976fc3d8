package watch

import (
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchAncestors is false: kqueue reports at once that a directory is removed or renamed, and to watch a directory it opens
// everything in it, which in a home directory is expensive and makes macOS ask the user for permission. Changes of ancestors are
// found by the rescan.
const watchAncestors = false

// unreliableFilesystems are filesystems that report themselves as local and on which a change may have no event.
var unreliableFilesystems = []string{"macfuse", "osxfuse", "fusefs", "virtiofs", "lifs", "prl_fs", "vmhgfs", "9p"}

// unreliableFilesystem returns the type of dir's filesystem if changes there may have no events, else "".
func unreliableFilesystem(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "" // gone by now, which is an event
	}
	kind := unix.ByteSliceToString(stat.Fstypename[:])
	if stat.Flags&unix.MNT_LOCAL == 0 || slices.Contains(unreliableFilesystems, kind) {
		return kind
	}
	return ""
}

// describeWatchError returns the error's text.
func describeWatchError(err error) string { return err.Error() }

// changeTime returns the file's st_ctime.
func changeTime(stat *syscall.Stat_t) time.Time { return time.Unix(stat.Ctimespec.Unix()) }
