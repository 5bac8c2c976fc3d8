package watch

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchAncestors: a directory that somebody is in, as a shell is in its project, does not say that it was removed until
// he has left. Only its parent tells.
const watchAncestors = true

// unreliableFilesystems are the filesystems on which a change made by another machine, or on the other side of a virtual one, causes
// no event here: their magic numbers as statfs(2) and the kernel's linux/magic.h have them.
var unreliableFilesystems = map[uint32]string{
	unix.NFS_SUPER_MAGIC:   "nfs",
	unix.SMB_SUPER_MAGIC:   "smb",
	unix.SMB2_SUPER_MAGIC:  "smb",
	unix.CIFS_SUPER_MAGIC:  "cifs",
	unix.V9FS_MAGIC:        "9p", // the Windows drives of WSL 2
	unix.FUSE_SUPER_MAGIC:  "fuse",
	unix.CODA_SUPER_MAGIC:  "coda",
	unix.CEPH_SUPER_MAGIC:  "ceph",
	unix.AFS_SUPER_MAGIC:   "afs",
	unix.AFS_FS_MAGIC:      "afs",
	unix.OCFS2_SUPER_MAGIC: "ocfs2",
	0x01161970:             "gfs2",
	0x0bd00bd0:             "lustre",
	0x47504653:             "gpfs",
	0x786f4256:             "vboxsf",
	0xbacbacbc:             "vmhgfs",
	0x7c7c6673:             "prl_fs",
}

// unreliableFilesystem names the filesystem that dir is on if changes there may have no events.
func unreliableFilesystem(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "" // gone by now, which is an event
	}
	return unreliableFilesystems[uint32(stat.Type)]
}

// describeWatchError says which limit of the system stands behind an error of inotify's.
func describeWatchError(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Sprintf("out of inotify watches (%v); raise fs.inotify.max_user_watches", err)
	case errors.Is(err, syscall.EMFILE):
		return fmt.Sprintf("%v; raise fs.inotify.max_user_instances or the limit on open files", err)
	}
	return err.Error()
}

// changeTime is when anything about the file was changed last.
func changeTime(stat *syscall.Stat_t) time.Time { return time.Unix(stat.Ctim.Unix()) }
