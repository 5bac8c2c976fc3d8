package watch

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchAncestors is true: inotify does not report that a directory was removed while it is some process's working directory, as a
// project is its shell's. Only a watch of the parent reports it.
const watchAncestors = true

// unreliableFilesystems are the filesystems on which a change made by another machine, or by the host of a virtual one, causes
// no event here, by their magic numbers in statfs(2) and linux/magic.h.
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

// unreliableFilesystem returns the type of dir's filesystem if changes there may have no events, else "".
func unreliableFilesystem(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "" // gone by now, which is an event
	}
	return unreliableFilesystems[uint32(stat.Type)]
}

// describeWatchError names the system limit that caused an error of inotify.
func describeWatchError(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Sprintf("out of inotify watches (%v); raise fs.inotify.max_user_watches", err)
	case errors.Is(err, syscall.EMFILE):
		return fmt.Sprintf("%v; raise fs.inotify.max_user_instances or the limit on open files", err)
	}
	return err.Error()
}

// changeTime returns the file's st_ctime.
func changeTime(stat *syscall.Stat_t) time.Time { return time.Unix(stat.Ctim.Unix()) }
