//go:build linux

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/bench"
)

// BenchmarkCLIStart measures the CPU time of commands that scripts and prompts run often, in a project that is up, compared with that of
// `direnv hook bash`, which does nothing but start and print. `exec -- true` is compared with `direnv exec . true` too.
func BenchmarkCLIStart(b *testing.B) {
	w := newReleaseEnv(b)
	root := w.project(tcpConfig("web", `"auto"`, serve(b, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	defer w.mustRun(root, "stop")
	envrcDir := w.home + "/direnv"
	if err := os.Mkdir(envrcDir, 0o755); err != nil {
		b.Fatal(err)
	}
	w.writeFile(envrcDir, ".envrc", "export A=1\n")
	isInstalled := direnvProgram.Missing() == ""
	if isInstalled {
		w.measure(b, envrcDir, "direnv", "allow")
	}
	// The supervisor has just started; its first seconds are not what a command costs.
	results := resultsOf(b)
	for _, command := range [][]string{{"hook", "bash"}, {"env"}, {"port", "web"}, {"status"}, {"exec", "--", "true"}} {
		name := strings.Join(command, " ")
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			c := results.Compare("CLI start, "+name, "ms of CPU", bench.Peer{Name: "direnv", Goal: bench.AtMost(2)})
			peers := map[string][]string{bench.LocalPort: append([]string{w.exe}, command...), "direnv": {"direnv", "hook", "bash"}}
			if command[0] == "exec" {
				c.Peers = append(c.Peers, bench.Peer{Name: "direnv exec"})
				peers["direnv exec"] = []string{"direnv", "exec", envrcDir, "true"}
			}
			if !isInstalled {
				for _, peer := range c.Peers {
					c.Missing(peer.Name, direnvProgram.Missing())
				}
			}
			for round := 0; b.Loop(); round++ {
				for _, program := range c.Order(round) {
					c.Add(program, w.meanCPU(b, root, 10, peers[program]...))
				}
			}
			reportMetrics(b, c)
		})
	}
}

// meanCPU runs a program n times and returns the mean of its CPU time, with that of its children, in ms.
func (w releaseEnv) meanCPU(b *testing.B, dir string, n int, argv ...string) float64 {
	b.Helper()
	sum := 0.0
	for range n {
		_, cpu := w.measure(b, dir, argv[0], argv[1:]...)
		sum += ms(cpu)
	}
	return sum / float64(n)
}
