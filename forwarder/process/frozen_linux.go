package process

import (
	"bytes"
	"os"
	"strconv"
)

// Frozen reports whether the leader is stopped, as by SIGSTOP or a debugger: it lives and does nothing. Its listener
// goes on accepting all the same, in the kernel's queue. Field 3 of /proc/PID/stat, after a name that may hold anything.
func (c *Child) Frozen() bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid()) + "/stat")
	if err != nil {
		return false
	}
	rest := bytes.TrimLeft(data[bytes.LastIndexByte(data, ')')+1:], " ")
	return len(rest) > 0 && (rest[0] == 'T' || rest[0] == 't')
}
