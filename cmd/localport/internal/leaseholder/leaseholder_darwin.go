package leaseholder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
)

// executed is P_EXEC of XNU's bsd/sys/proc.h: the process has executed a program since it was forked.
const executed = 0x4000

// readProcess asks the kernel for a process and its command line (sysctl(3): KERN_PROC_PID, KERN_PROCARGS2).
func readProcess(pid int) (process, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(info.Proc.P_pid) != pid {
		return process{}, errors.New("there is no such process")
	}
	p := process{
		pid: pid, parent: int(info.Eproc.Ppid), uid: int(info.Eproc.Ucred.Uid),
		name: unix.ByteSliceToString(info.Proc.P_comm[:]), isFork: info.Proc.P_flag&executed == 0,
	}
	p.args, _ = readArguments(pid)
	return p, nil
}

// readArguments returns the command line and the environment of a process of the same user. Their text follows their number: the path of
// the program, zero bytes, the arguments and the environment, each ended by a zero byte.
func readArguments(pid int) (args, env []string) {
	data, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil || len(data) < 4 {
		return nil, nil
	}
	count := int(binary.LittleEndian.Uint32(data))
	_, rest, _ := bytes.Cut(data[4:], []byte{0})
	texts := strings.Split(string(bytes.TrimLeft(rest, "\x00")), "\x00")
	if count > len(texts) {
		return nil, nil
	}
	return texts[:count], texts[count:]
}

// hasRunVariable reports whether the process was started by a service of a supervisor.
func hasRunVariable(pid int) bool {
	_, env := readArguments(pid)
	for _, entry := range env {
		if strings.HasPrefix(entry, forwarder.RunVariable+"=") {
			return true
		}
	}
	return false
}
