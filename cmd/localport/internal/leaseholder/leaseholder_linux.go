package leaseholder

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/forwarder"
)

// forkNoExec is PF_FORKNOEXEC of the kernel's include/linux/sched.h, in field 9 of /proc/PID/stat: the process was forked and has
// executed nothing since.
const forkNoExec = 0x40

// readProcess reads /proc/PID (proc_pid_stat(5), proc_pid_cmdline(5)).
func readProcess(pid int) (process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, errors.New("there is no such process")
	}
	if err != nil {
		return process{}, err
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, err
	}
	p := process{pid: pid, uid: int(info.Sys().(*syscall.Stat_t).Uid)}
	start, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if start < 0 || end < start {
		return process{}, errors.New("its state cannot be read")
	}
	p.name = string(stat[start+1 : end])
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 7 {
		return process{}, errors.New("its state cannot be read")
	}
	p.parent, _ = strconv.Atoi(fields[1])
	flags, _ := strconv.ParseUint(fields[6], 10, 64)
	p.isFork = flags&forkNoExec != 0
	if line, err := os.ReadFile(dir + "/cmdline"); err == nil && len(line) > 0 {
		p.args = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	}
	return p, nil
}

// hasRunVariable reports whether the process was started by a service of a supervisor.
func hasRunVariable(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && (bytes.HasPrefix(data, []byte(forwarder.RunVariable+"=")) || bytes.Contains(data, []byte("\x00"+forwarder.RunVariable+"=")))
}
