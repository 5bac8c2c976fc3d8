package process

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// closeOnExec marks what this process inherited (a readiness pipe, a listener handed over), so that no child holds
// it open. Go marks all that it opens itself; once is enough.
var closeOnExec = sync.OnceFunc(func() {
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
