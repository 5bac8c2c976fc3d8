package lockstate

import "io/fs"

// lockHolder cannot tell: the kernel keeps no list of flock locks.
func lockHolder(fs.FileInfo) (pid int, program string) { return 0, "" }
