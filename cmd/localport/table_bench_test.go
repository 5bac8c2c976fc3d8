//go:build linux

package main

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
)

var tableDir = flag.String("table", "", "directory for the results of BenchmarkTable, which runs only with this flag")

// comparedPrograms are all that the table compares with, or needs.
var comparedPrograms = []bench.Program{
	direnvProgram, miseProgram, pitchforkProgram, sshProgram, autosshProgram, kubectlProgram, kubefwdProgram, socatProgram, pythonLocalport, psqlProgram,
	{Name: "bash", VersionArgs: []string{"--version"}, Install: "Debian: bash"},
	{Name: "zsh", VersionArgs: []string{"--version"}, Install: "Debian: zsh"},
	{Name: "fish", VersionArgs: []string{"--version"}, Install: "Debian: fish"},
	{Name: "strace", VersionArgs: []string{"--version"}, Install: "Debian: strace"},
}

const installPeers = ".ci/bench-peers installs it"

var (
	direnvProgram    = bench.Program{Name: "direnv", VersionArgs: []string{"version"}, Install: "Debian: direnv"}
	miseProgram      = bench.Program{Name: "mise", VersionArgs: []string{"--version"}, Install: installPeers}
	pitchforkProgram = bench.Program{Name: "pitchfork", VersionArgs: []string{"--version"}, Install: installPeers}
	sshProgram       = bench.Program{Name: "ssh", VersionArgs: []string{"-V"}, Install: "Debian: openssh-client"}
	autosshProgram   = bench.Program{Name: "autossh", VersionArgs: []string{"-V"}, Install: "Debian: autossh"}
	kubectlProgram   = bench.Program{Name: "kubectl", VersionArgs: []string{"version", "--client"}, Install: installPeers}
	kubefwdProgram   = bench.Program{Name: "kubefwd", VersionArgs: []string{"version"}, Install: installPeers}
	socatProgram     = bench.Program{Name: "socat", VersionArgs: []string{"-V"}, Install: "Debian: socat"}
	pythonLocalport  = bench.Program{Name: "localport-pypi", VersionArgs: []string{"--version"}, Install: installPeers}
	psqlProgram      = bench.Program{Name: "psql", VersionArgs: []string{"--version"}, Install: "Debian: postgresql-client"}
)

// table is what BenchmarkTable prints; nil while a benchmark runs by itself.
var table *bench.Table

// resultsOf returns the table to which a benchmark adds its comparisons. A benchmark that runs by itself prints its own when it ends.
func resultsOf(b *testing.B) *bench.Table {
	if table != nil {
		return table
	}
	t := &bench.Table{}
	b.Cleanup(func() { fmt.Printf("\n%s\n", t) }) // the log of a benchmark that has others in it is not printed
	return t
}

// BenchmarkTable runs the benchmarks that compare LocalPort with other programs, prints one table of all ratios, and writes the figures to
// -table/DATE-COMMIT.json: just bench. Each iteration is a round, so that -benchtime 10x is ten rounds.
func BenchmarkTable(b *testing.B) {
	if *tableDir == "" {
		b.Skip("it needs -table DIR")
	}
	report := bench.Start(comparedPrograms)
	table = &bench.Table{}
	defer func() { table = nil }()
	for _, m := range []struct {
		name string
		run  func(*testing.B)
	}{
		{"Hooks", BenchmarkHooks},
		{"CLIStart", BenchmarkCLIStart},
		{"SSHForwardsFirstByte", BenchmarkSSHForwardsFirstByte},
		{"SSHForwardsThroughput", BenchmarkSSHForwardsThroughput},
		{"SSHForwardsStart", BenchmarkSSHForwardsStart},
		{"SSHForwardsKilled", BenchmarkSSHForwardsKilled},
		{"KubernetesReady", BenchmarkKubernetesReady},
		{"KubernetesMemory", BenchmarkKubernetesMemory},
		{"KubernetesThroughput", BenchmarkKubernetesThroughput},
		{"KubernetesConnections", BenchmarkKubernetesConnections},
		{"KubernetesPodDeleted", BenchmarkKubernetesPodDeleted},
		{"Relay", BenchmarkRelay},
		{"NetworkCut", BenchmarkNetworkCut},
		{"ExecFirstQuery", BenchmarkExecFirstQuery},
		{"Idle", BenchmarkIdle},
		{"Growth", BenchmarkGrowth},
	} {
		before, startTime := len(table.Rows()), time.Now()
		isChosen := false // by -bench
		isBroken := !b.Run(m.name, func(b *testing.B) { isChosen = true; m.run(b) })
		if !isChosen {
			continue
		}
		if isBroken || len(table.Rows()) == before {
			table.Fail(m.name)
		}
		fmt.Printf("# %s took %.0f s\n", m.name, time.Since(startTime).Seconds())
	}
	path, err := report.Write(*tableDir, "", table)
	fmt.Printf("\n%s\n%s\n", table, path)
	if err != nil {
		b.Fatal(err)
	}
}

// reportMetrics reports the medians and ratios of comparisons as metrics of a benchmark, without its time for each round.
func reportMetrics(b *testing.B, comparisons ...*bench.Comparison) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for _, c := range comparisons {
		metric := func(program string) string {
			return strings.NewReplacer(" ", "-", ",", "").Replace(c.Name + "/" + c.Unit + "/" + program)
		}
		if ours := c.Figures(bench.LocalPort); len(ours) > 0 {
			b.ReportMetric(bench.Median(ours), metric(bench.LocalPort))
		}
		for _, peer := range c.Peers {
			if theirs := c.Figures(peer.Name); len(theirs) > 0 {
				b.ReportMetric(bench.Median(theirs), metric(peer.Name))
			}
		}
	}
}

// needPeers marks the peers of these programs as missing that are not installed.
func needPeers(comparisons []*bench.Comparison, programs ...bench.Program) {
	for _, c := range comparisons {
		for _, p := range programs {
			if why := p.Missing(); why != "" {
				c.Missing(p.Name, why)
			}
		}
	}
}

// mustAll fails the benchmark if one of the errors is not nil.
func mustAll(b *testing.B, errs ...error) {
	b.Helper()
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
