package watch

import (
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchAncestors: kqueue tells at once that a directory is removed or renamed, and to watch a directory it opens
// everything in it, which in a home is much and makes macOS ask the user. What happens further up is left to the slow
// look.
const watchAncestors = false

// unreliableFilesystems are the filesystems that call themselves local and on which a change may have no event.
var unreliableFilesystems = []string{"macfuse", "osxfuse", "fusefs", "virtiofs", "lifs", "prl_fs", "vmhgfs", "9p"}

// unreliableFilesystem names the filesystem that dir is on if changes there may have no events.
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

// describeWatchError is the error's text.
func describeWatchError(err error) string { return err.Error() }

// changeTime is when anything about the file was changed last.
func changeTime(stat *syscall.Stat_t) time.Time { return time.Unix(stat.Ctimespec.Unix()) }
