package chaos

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is a running process of the PID namespace, as it was when it was read.
type process struct {
	pid, parent int
	args        []string // never empty
	state       byte     // as in /proc/PID/stat: R, S, T, ...
}

func (p process) String() string {
	return strconv.Itoa(p.pid) + " (parent " + strconv.Itoa(p.parent) + ", " + string(p.state) + ") " + strings.Join(p.args, " ")
}

// program returns the first argument of a process that runs the executable self: the name of a program of RunProgram. It is empty
// for other processes.
func (p process) program(self string) string {
	if len(p.args) < 2 || p.args[0] != self {
		return ""
	}
	return p.args[1]
}

// environmentValue returns the value of a variable in the environment that a process was started with; empty if it is not set.
func (p process) environmentValue(name string) string {
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "environ"))
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// listProcesses returns all running processes, without zombies.
func listProcesses() []process {
	entries, _ := os.ReadDir("/proc")
	var all []process
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			if p, ok := findProcess(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// maxStatReads is how often /proc/PID/stat is read while it describes a first thread that the kernel is releasing. That process has ended,
// or another thread of it called execve and gets the PID before the first one is released: one read more tells which.
const maxStatReads = 5

func findProcess(pid int) (process, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	for range maxStatReads {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			return process{}, false
		}
		p, isRunning, isReleased := parseStat(stat)
		if isReleased {
			continue
		}
		p.pid = pid
		data, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		p.args = strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
		return p, isRunning
	}
	return process{}, false
}

// parseStat reads the text of /proc/PID/stat (proc_pid_stat(5)). isReleased: it describes a first thread that the kernel was releasing.
func parseStat(stat []byte) (p process, isRunning, isReleased bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 18 {
		return process{}, false, false
	}
	threads, err := strconv.Atoi(string(fields[17]))
	p.state = fields[0][0]
	p.parent, _ = strconv.Atoi(string(fields[1]))
	isReleased = p.state == 'X' || p.state == 'Z' && err == nil && threads == 0
	// A zombie with other threads is in the middle of its execve.
	isRunning = p.state != 'Z' || err == nil && threads > 1
	return p, isRunning, isReleased
}

func isAlive(pid int) bool {
	_, ok := findProcess(pid)
	return ok
}

// supervisorsOf returns the processes that are supervisors of a config file.
func supervisorsOf(all []process, config string) []process {
	return slices.DeleteFunc(slices.Clone(all), func(p process) bool {
		return len(p.args) < 2 || p.args[1] != "supervise" || !slices.Contains(p.args, config)
	})
}

// childrenOf returns the processes whose parent is a process.
func childrenOf(all []process, parent int) []process {
	return slices.DeleteFunc(slices.Clone(all), func(p process) bool { return p.parent != parent })
}

func signalProcess(pid int, signal syscall.Signal) bool { return syscall.Kill(pid, signal) == nil }

// socket is an entry of /proc/net/tcp.
type socket struct {
	local, remote int // ports
	isListening   bool
	inode         string
}

func listSockets() []socket {
	var all []socket
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(name)
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[0] == "sl" {
				continue
			}
			const listen = "0A" // TCP_LISTEN in include/net/tcp_states.h
			all = append(all, socket{parseHexPort(fields[1]), parseHexPort(fields[2]), fields[3] == listen, fields[9]})
		}
	}
	return all
}

func parseHexPort(field string) int {
	_, hex, _ := strings.Cut(field, ":")
	port, _ := strconv.ParseUint(hex, 16, 16)
	return int(port)
}

// socketInodes returns the inodes of the sockets that a process has open.
func socketInodes(pid int) map[string]bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, _ := os.ReadDir(dir)
	inodes := map[string]bool{}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); ok && err == nil {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}
