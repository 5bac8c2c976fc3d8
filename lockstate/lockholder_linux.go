package lockstate

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockHolder finds the process that holds the flock of a file, by /proc/locks (proc(5)):
//
//	1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF
//
// pid is 0 if it is not known: the process has ended and passed its descriptor on, or is in
// another PID namespace.
func lockHolder(info fs.FileInfo) (pid int, program string) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, ""
	}
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, ""
	}
	for line := range strings.Lines(string(locks)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != id {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		if err != nil || pid <= 0 {
			return 0, ""
		}
		name, err := os.ReadFile("/proc/" + fields[4] + "/comm")
		if err != nil {
			return 0, ""
		}
		return pid, strings.TrimSpace(string(name))
	}
	return 0, ""
}
