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

// The benchmarks of ssh forwards compare with plain ssh and autossh, which run in turns and use the same sshd: just bench-ssh. The ratio
// is what counts.

// sshBench is an ssh server, and the environment in which forwards to it run.
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

// forwards are the forwards of one of the alternatives.
type forwards struct {
	name     string
	addrs    []string
	start    func()
	rootPIDs func() []int  // the processes that start has started; their descendants belong to the forwards too
	startCPU time.Duration // the CPU time of processes that ended during the start
	end      func()        // returns when all local processes have ended
	// openingTime returns how long localport took without the start of its supervisor. It is nil for the others.
	openingTime func(since time.Time) time.Duration
}

// The names of the alternatives.
const (
	localportName = "localport"
	plainSSH      = "ssh"     // one ssh for each forward
	oneSSH        = "ssh-all" // one ssh for all of them
	autoSSH       = "autossh"
)

// alternatives returns forwards to these ports of the server, by localport and by others.
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
		s.b.Log("autossh is missing (Debian: autossh)")
		return all
	}
	return append(all, s.programs(autoSSH, single, "autossh", "-M", "0"))
}

// localport returns the forwards of a project with one service for each remote port.
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

// programs returns the forwards of ssh, or a program that runs ssh: one process for each group of remote ports.
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

// waitLogouts waits until the server has no login.
func (s *sshBench) waitLogouts() {
	eventually(s.b, "nobody is logged in", func() bool { return len(processTree(s.sshd)) == 1 })
}

// cpu returns the CPU time of the forwards' local processes since their start.
func (f *forwards) cpu() time.Duration { return f.startCPU + cpuTime(f.processes()) }

// processes returns the local processes of the forwards; if names are given, only those with these names.
func (f *forwards) processes(names ...string) []int {
	return slices.DeleteFunc(processTree(f.rootPIDs()...), func(pid int) bool {
		return len(names) > 0 && !slices.Contains(names, processName(pid))
	})
}

// waitAnswers waits until a byte was echoed through every forward.
func (f *forwards) waitAnswers(b *testing.B) {
	b.Helper()
	errCh := make(chan error)
	for _, addr := range f.addrs {
		go func() { errCh <- retryUntilSuccess(func() error { return echoOnce(addr) }) }()
	}
	for range f.addrs {
		if err := <-errCh; err != nil {
			b.Errorf("%s: %v", f.name, err)
		}
	}
}

// rotate returns the alternatives in the order of a round: each is first equally often.
func rotate(all []*forwards, round int) []*forwards {
	first := round % len(all)
	return slices.Concat(all[first:], all[:first])
}

// BenchmarkSSHForwardsStart measures the time from the start of forwards to one server until all have carried a byte, the local CPU time
// until then, and the server's CPU time until they have ended.
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

// BenchmarkSSHForwardsIdle measures what ten forwards use while they are idle, from when all have answered.
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
