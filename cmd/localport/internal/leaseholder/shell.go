package leaseholder

import (
	"os"
	"strings"
)

// FindShell returns the pid and the name of the nearest interactive shell that this process was started from; false if there is none.
func FindShell() (pid int, name string, ok bool) {
	ancestors, err := readAncestors(os.Getppid())
	if err != nil {
		return 0, "", false
	}
	for _, p := range ancestors {
		if p.isInteractiveShell() {
			return p.pid, strings.TrimPrefix(p.name, "-"), true
		}
	}
	return 0, "", false
}
