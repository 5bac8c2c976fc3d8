//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// The benchmarks of ssh forwards run beside plain ssh and autossh, to one real sshd, in the same run and in turns; what counts
// is the ratio: just bench-ssh.

// sshBench is an ssh server, and a user who wants forwards there.
type sshBench struct {
	releaseEnv
	b    *testing.B
	host *sshd.Server
	sshd int // its pid
}

func sshBenchmark(b *testing.B) *sshBench {
	b.Helper()
	s := &sshBench{releaseEnv: newReleaseEnv(b), b: b, host: sshd.Start(b)}
	for _, child := range findChildren(b, os.Getpid()) {
		if processName(child.PID) == "sshd" {
			s.sshd = child.PID
		}
	}
	return s
}

// forwards are somebody's way to have forwards, from start to end.
type forwards struct {
	name     string
	addrs    []string
	start    func()
	rootPIDs func() []int  // the processes that start has left; what they have started belongs to them
	startCPU time.Duration // the CPU time of what ended with the start
	end      func()        // returns when nothing is left on this side
	// openingTime is how long it took where localport ran already, from the start of the first until the last was healthy. It is nil
	// for the others.
	openingTime func(since time.Time) time.Duration
}

// The names of those who have forwards.
const (
	localportName = "localport"
	plainSSH      = "ssh"     // one for each
	oneSSH        = "ssh-all" // one ssh for all of them
	autoSSH       = "autossh"
)

// alternatives are the ways to have forwards to these ports of the server.
func (s *sshBench) alternatives(remotePorts ...int) []*forwards {
	s.b.Helper()
	var single [][]int
	for _, port := range remotePorts {
		single = append(single, []int{port})
	}
	all := []*forwards{s.localport(remotePorts), s.programs(plainSSH, single, "ssh")}
	if len(remotePorts) > 1 {
		all = append(all, s.programs(oneSSH, [][]int{remotePorts}, "ssh"))
	}
	if _, err := exec.LookPath("autossh"); err != nil {
		s.b.Log("autossh is missing (Debian: autossh): it has no figures")
		return all
	}
	return append(all, s.programs(autoSSH, single, "autossh", "-M", "0"))
}

// localport is a project of one service for each far end, which is down before start and after end.
func (s *sshBench) localport(remotePorts []int) *forwards {
	s.b.Helper()
	f := &forwards{name: localportName}
	var config strings.Builder
	for i, remote := range remotePorts {
		port := ports.FreePort(s.b)
		f.addrs = append(f.addrs, fmt.Sprintf("127.0.0.1:%d", port))
		config.WriteString(sshConfig(fmt.Sprintf("s%d", i), port, s.host, remote))
	}
	root := s.project(config.String())
	s.mustRun(root, "allow")
	f.start = func() { _, f.startCPU = s.measure(s.b, root, s.exe, "start", "--no-wait") }
	f.rootPIDs = func() []int { return []int{s.state(root).Supervisor.PID} }
	f.openingTime = func(since time.Time) time.Duration { return s.openingTime(s.b, root, len(remotePorts), since) }
	f.end = func() {
		s.mustRun(root, "stop")
		eventually(s.b, "the project is down", func() bool { return s.state(root).Supervisor == nil })
	}
	return f
}

// programs are runs of ssh, or of what runs ssh, one for each group of far ends, started at once.
func (s *sshBench) programs(name string, groups [][]int, argv ...string) *forwards {
	s.b.Helper()
	f := &forwards{name: name}
	var lines [][]string
	for _, remotePorts := range groups {
		line := append(slices.Clone(argv), "-N", "-S", "none", "-F", s.host.ConfigFile, "-p", fmt.Sprint(s.host.Port), "-l", s.host.User)
		for _, remote := range remotePorts {
			port := ports.FreePort(s.b)
			f.addrs = append(f.addrs, fmt.Sprintf("127.0.0.1:%d", port))
			line = append(line, "-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:%d", port, remote))
		}
		lines = append(lines, append(line, s.host.Host))
	}
	var running []*program
	f.start = func() {
		running = nil
		for _, line := range lines {
			running = append(running, startProgram(s.b, line))
		}
	}
	f.rootPIDs = func() (pids []int) {
		for _, p := range running {
			pids = append(pids, p.pid())
		}
		return pids
	}
	f.end = func() {
		for _, p := range running {
			p.stop()
		}
	}
	return f
}

// waitLogouts waits until nobody is logged in to the server.
func (s *sshBench) waitLogouts() {
	eventually(s.b, "nobody is logged in", func() bool { return len(processTree(s.sshd)) == 1 })
}

// cpu is the CPU time that the forwards have taken on this side since their start.
func (f *forwards) cpu() time.Duration { return f.startCPU + cpuTime(f.processes()) }

// processes are those of the forwards on this side, if names are given those with these names.
func (f *forwards) processes(names ...string) []int {
	return slices.DeleteFunc(processTree(f.rootPIDs()...), func(pid int) bool {
		return len(names) > 0 && !slices.Contains(names, processName(pid))
	})
}

// waitAnswers waits until a byte has come back through every forward.
func (f *forwards) waitAnswers(b *testing.B) {
	b.Helper()
	errs := make(chan error)
	for _, addr := range f.addrs {
		go func() { errs <- retryUntilSuccess(func() error { return echoOnce(addr) }) }()
	}
	for range f.addrs {
		if err := <-errs; err != nil {
			b.Errorf("%s: %v", f.name, err)
		}
	}
}

// rotate are the contenders in the order of a round, each of them first as often as any other.
func rotate(all []*forwards, round int) []*forwards {
	first := round % len(all)
	return slices.Concat(all[first:], all[:first])
}

// BenchmarkSSHForwardsStart is the time from the start of forwards to one server until all have carried a byte, and the CPU time
// that this took on this side; and the server's CPU time until they have ended.
func BenchmarkSSHForwardsStart(b *testing.B) {
	s := sshBenchmark(b)
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			figures := newBenchTable("ms until all answer", "ms of CPU", "of it ssh's", "ms of sshd's CPU")
			all := s.alternatives(startEchoServers(b, n)...)
			for round := 0; b.Loop(); round++ {
				for _, f := range rotate(all, round) {
					server, startTime := cpuTime(processTree(s.sshd)), time.Now()
					f.start()
					f.waitAnswers(b)
					took, cpu, ssh := time.Since(startTime), f.cpu(), cpuTime(f.processes(plainSSH))
					if f.openingTime != nil {
						figures.add(f.name+", once it runs", ms(f.openingTime(startTime)))
					}
					f.end()
					s.waitLogouts()
					figures.add(f.name, ms(took), ms(cpu), ms(ssh), ms(cpuTime(processTree(s.sshd))-server))
				}
			}
			figures.report(b, "ms until all answer", "ms of CPU", "ms of sshd's CPU")
		})
	}
}

// BenchmarkSSHForwardsIdle is what ten forwards take when nobody uses them, from when all have answered.
func BenchmarkSSHForwardsIdle(b *testing.B) {
	const window = 10 * time.Second
	s, figures := sshBenchmark(b), newBenchTable("ms of CPU in the first 10 s", "ms of CPU in the next 10 s", "of it ssh's", "MB", "processes")
	all := s.alternatives(startEchoServers(b, 10)...)
	for round := 0; b.Loop(); round++ {
		for _, f := range rotate(all, round) {
			f.start()
			f.waitAnswers(b)
			first := f.cpu()
			time.Sleep(window)
			second, ssh := f.cpu(), cpuTime(f.processes(plainSSH))
			time.Sleep(window)
			third, processes := f.cpu(), f.processes()
			ssh = cpuTime(f.processes(plainSSH)) - ssh
			memory := 0.0
			for _, pid := range processes {
				memory += proportionalMemory(b, pid)
			}
			f.end()
			s.waitLogouts()
			figures.add(f.name, ms(second-first), ms(third-second), ms(ssh), memory, float64(len(processes)))
		}
	}
	figures.report(b, "MB")
}
