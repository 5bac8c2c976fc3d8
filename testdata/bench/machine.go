package bench

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine describes the computer that measures.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	System string `json:"system"`
	Go     string `json:"go"`
}

func describeMachine() Machine {
	return Machine{
		CPU: lineValue("/proc/cpuinfo", "model name", ":"), Cores: runtime.NumCPU(), Memory: lineValue("/proc/meminfo", "MemTotal", ":"),
		Kernel: firstLine("uname", "-srm"), System: strings.Trim(lineValue("/etc/os-release", "PRETTY_NAME", "="), `"`), Go: runtime.Version(),
	}
}

// lineValue returns what follows the separator in the first line of the file that begins with key.
func lineValue(path, key, separator string) string {
	data, _ := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		if name, value, found := strings.Cut(line, separator); found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	return strings.TrimSpace(string(data))
}

func describeCommit() (commit string, modified bool) {
	commit = firstLine("git", "rev-parse", "--short=7", "HEAD")
	return commit, firstLine("git", "status", "--porcelain") != ""
}

// firstLine runs a program and returns the first line with text that it prints; empty if it cannot be run.
func firstLine(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if line = strings.Trim(line, "│╭╮╰╯─ \n"); line != "" && !strings.HasPrefix(line, "Version Information") {
			return line
		}
	}
	return ""
}

// Program is a program whose version a report names.
type Program struct {
	Name        string
	VersionArgs []string
	Install     string // how to get it
}

// Version returns the program's version, or that it is missing and how to install it.
func (p Program) Version() string {
	if why := p.Missing(); why != "" {
		return "missing: " + why
	}
	return firstLine(p.Name, p.VersionArgs...)
}

// Missing returns why the program cannot be run; empty if it can.
func (p Program) Missing() string {
	if _, err := exec.LookPath(p.Name); err != nil {
		return p.Name + " is not installed; " + p.Install
	}
	return ""
}
