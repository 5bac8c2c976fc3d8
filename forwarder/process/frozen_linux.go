package process

import (
	"bytes"
	"os"
	"strconv"
)

// Frozen reports whether the leader is suspended, by SIGSTOP or a debugger. The kernel goes on accepting connections to its
// listener, so that a connect does not tell. It reads field 3 of /proc/PID/stat (proc_pid_stat(5)); the name before it may
// contain any character.
func (c *Child) Frozen() bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid()) + "/stat")
	if err != nil {
		return false
	}
	rest := bytes.TrimLeft(data[bytes.LastIndexByte(data, ')')+1:], " ")
	return len(rest) > 0 && (rest[0] == 'T' || rest[0] == 't')
}
