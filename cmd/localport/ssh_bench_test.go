//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// The benchmarks of ssh forwards compare with plain ssh and autossh, which run in turns and use the same sshd. The ratio is what
// counts.

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
	plainSSH = "ssh"     // one ssh for each forward
	oneSSH   = "ssh-all" // one ssh for all of them
	autoSSH  = "autossh"

	pypiLocalport = "localport-pypi" // the LocalPort of PyPI
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
	if autosshProgram.Missing() != "" {
		return all
	}
	return append(all, s.programs(autoSSH, single, "autossh", "-M", "0"))
}

// localport returns the forwards of a project with one service for each remote port.
func (s *sshBench) localport(remotePorts []int) *forwards {
	s.b.Helper()
	f := &forwards{name: bench.LocalPort}
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

// pythonLocalport returns a forward of the daemon of the LocalPort of PyPI, which runs ssh. Its commands need a terminal, so that the module is run
// that they start.
func (s *sshBench) pythonLocalport(remote int) *forwards {
	s.b.Helper()
	local, home := ports.FreePort(s.b), s.b.TempDir()
	config := filepath.Join(home, "localport.yaml")
	text := fmt.Sprintf("version: \"1.0\"\nservices:\n  - name: web\n    technology: ssh\n    local_port: %d\n    remote_port: %d\n    connection:\n"+
		"      host: %s\n      user: %s\n      port: %d\n      key_file: %s\n      remote_host: 127.0.0.1\n", local, remote, s.host.Host, s.host.User, s.host.Port, s.host.KeyFile)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.b.Fatal(err)
	}
	argv := []string{"env", "HOME=" + home, pythonOf(pypiLocalport), "-m", "localport.daemon", "--foreground", "--config", config, "--pid-file", filepath.Join(home, "pid")}
	var daemon *program
	return &forwards{
		name: pypiLocalport, addrs: []string{fmt.Sprintf("127.0.0.1:%d", local)},
		start:    func() { daemon = startProgram(s.b, argv) },
		rootPIDs: func() []int { return []int{daemon.pid()} },
		end:      func() { daemon.stop() },
	}
}

// pythonOf returns the Python interpreter of the virtual environment that a program in PATH is a link into.
func pythonOf(program string) string {
	path, _ := exec.LookPath(program)
	path, _ = filepath.EvalSymlinks(path)
	return filepath.Join(filepath.Dir(path), "python3")
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

// byName returns the alternative of this name.
func byName(all []*forwards, name string) *forwards {
	return all[slices.IndexFunc(all, func(f *forwards) bool { return f.name == name })]
}

// BenchmarkSSHForwardsStart measures the time from the start of forwards to one server until all have carried a byte, the local CPU time
// until then, and the server's CPU time until they have ended.
func BenchmarkSSHForwardsStart(b *testing.B) {
	s, results := sshBenchmark(b), resultsOf(b)
	for _, n := range []int{1, 10} {
		if n == 1 && table != nil {
			continue
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			prefix := fmt.Sprintf("ssh, %d forwards, ", n)
			peers := []bench.Peer{{Name: plainSSH, Goal: bench.AtMost(0.33)}, {Name: autoSSH}}
			if n > 1 {
				peers = append(peers, bench.Peer{Name: oneSSH})
			}
			answer := results.Compare(prefix+"cold until all answer", "ms", peers...)
			cpu := results.Compare(prefix+"CPU until all answer", "ms", bench.Peer{Name: plainSSH})
			server := results.Compare(prefix+"the server's CPU", "ms", bench.Peer{Name: plainSSH})
			opening := results.Measure(prefix+"until all answer, without the supervisor's start", "ms", bench.Goal{})
			needPeers([]*bench.Comparison{answer}, autosshProgram)
			all := s.alternatives(startEchoServers(b, n)...)
			for round := 0; b.Loop(); round++ {
				for _, name := range answer.Order(round) {
					f := byName(all, name)
					serverBefore, startTime := cpuTime(processTree(s.sshd)), time.Now()
					f.start()
					f.waitAnswers(b)
					answer.Add(name, ms(time.Since(startTime)))
					cpu.Add(name, ms(f.cpu()))
					if f.openingTime != nil {
						opening.Add(name, ms(f.openingTime(startTime)))
					}
					f.end()
					s.waitLogouts()
					server.Add(name, ms(cpuTime(processTree(s.sshd))-serverBefore))
				}
			}
			reportMetrics(b, answer, cpu, server, opening)
		})
	}
}

// BenchmarkSSHForwardsIdle measures what ten forwards use while they are idle, from when all have answered.
func BenchmarkSSHForwardsIdle(b *testing.B) {
	const window = 10 * time.Second
	s, results := sshBenchmark(b), resultsOf(b)
	peers := []bench.Peer{{Name: plainSSH}, {Name: oneSSH}, {Name: autoSSH}}
	first := results.Compare("ssh, 10 idle forwards, CPU in the first 10 s", "ms", peers...)
	next := results.Compare("ssh, 10 idle forwards, CPU in the next 10 s", "ms", peers...)
	memory := results.Compare("ssh, 10 idle forwards, memory", "MB", peers...)
	needPeers([]*bench.Comparison{first, next, memory}, autosshProgram)
	all := s.alternatives(startEchoServers(b, 10)...)
	for round := 0; b.Loop(); round++ {
		for _, name := range first.Order(round) {
			f := byName(all, name)
			f.start()
			f.waitAnswers(b)
			answered := f.cpu()
			time.Sleep(window)
			settled := f.cpu()
			time.Sleep(window)
			first.Add(name, ms(settled-answered))
			next.Add(name, ms(f.cpu()-settled))
			sum := 0.0
			for _, pid := range f.processes() {
				sum += proportionalMemory(b, pid)
			}
			memory.Add(name, sum)
			f.end()
			s.waitLogouts()
		}
	}
	reportMetrics(b, first, next, memory)
}
