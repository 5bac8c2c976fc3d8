package watch

import (
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchPassages: kqueue tells at once that a directory is removed or renamed, and to watch a directory it opens
// everything in it, which in a home is much and makes macOS ask the user. What happens further up is left to the slow
// look.
const watchPassages = false

// silent are the filesystems that call themselves local and on which a change may have no event.
var silent = []string{"macfuse", "osxfuse", "fusefs", "virtiofs", "lifs", "prl_fs", "vmhgfs", "9p"}

// silence names the filesystem that dir is on if changes there may have no events.
func silence(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "" // gone by now, which is an event
	}
	kind := unix.ByteSliceToString(stat.Fstypename[:])
	if stat.Flags&unix.MNT_LOCAL == 0 || slices.Contains(silent, kind) {
		return kind
	}
	return ""
}

// limits is the error's text.
func limits(err error) string { return err.Error() }

// changeTime is when anything about the file was changed last.
func changeTime(stat *syscall.Stat_t) time.Time { return time.Unix(stat.Ctimespec.Unix()) }
