package process

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// setCloseOnExec marks the descriptors that this process inherited (a readiness pipe, a listener handed over), so that no child
// keeps them open. Go marks those that it opens itself, so doing it once is enough.
var setCloseOnExec = sync.OnceFunc(func() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
})
