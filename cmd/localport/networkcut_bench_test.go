//go:build linux

package main

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
	"github.com/localport-sh/localport/testdata/netns"
	"github.com/localport-sh/localport/testdata/sshd"
)

// BenchmarkNetworkCut cuts the network to an ssh server for two seconds, while fifty clients a second connect, and measures the time from
// its return until a client is answered, and how many clients failed. Nothing restarts a plain ssh: its figure is the time from its start to
// the first answer. autossh's ssh notices a lost server after two seconds, as LocalPort's does.
func BenchmarkNetworkCut(b *testing.B) {
	const cut = 2 * time.Second
	w, results := newReleaseEnv(b), resultsOf(b)
	local, remote := netns.NewHostPair(b)
	s := &sshBench{releaseEnv: w, b: b, host: sshd.StartOn(b, remote, remote.Addr.String())}
	listener, err := remote.Listen("127.0.0.1:0")
	mustAll(b, err)
	var serving sync.WaitGroup
	serving.Go(func() { acceptAll(listener, &serving, greetLines) })
	b.Cleanup(func() { listener.Close(); serving.Wait() })
	upstream := listener.Addr().(*net.TCPAddr).Port
	w.runOnHost(local)
	s.exe = w.exe

	options := []string{"-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2", "-o", "ExitOnForwardFailure=yes"}
	all := []*forwards{
		s.localport([]int{upstream}),
		s.programs(plainSSH, [][]int{{upstream}}, local.Argv(append([]string{"ssh"}, options...)...)...),
	}
	answered := results.Compare("network cut for 2 s, time until a client is answered", "ms", bench.Peer{Name: plainSSH, Goal: bench.AtMost(1.2)}, bench.Peer{Name: autoSSH})
	failed := results.Measure("network cut for 2 s, clients that fail", "clients", bench.AtMost(0))
	theirs := results.Measure("network cut for 2 s, clients that fail with autossh", "clients", bench.Goal{})
	needPeers([]*bench.Comparison{answered}, autosshProgram)
	if autosshProgram.Missing() == "" {
		all = append(all, s.programs(autoSSH, [][]int{{upstream}}, local.Argv(append([]string{"autossh", "-M", "0"}, options...)...)...))
	}
	for round := 0; b.Loop(); round++ {
		for _, name := range answered.Order(round) {
			f := byName(all, name)
			ask := func() error { return askOn(local, f.addrs[0]) }
			startTime := time.Now()
			f.start()
			mustAll(b, retryUntilSuccess(ask))
			if name == plainSSH {
				answered.Add(name, ms(time.Since(startTime)))
				f.end()
				continue
			}
			time.Sleep(1500 * time.Millisecond) // a tunnel that fails within a second of its start is replaced only after a delay
			took, failures := measureCut(b, local, cut, ask)
			answered.Add(name, took)
			if name == bench.LocalPort {
				failed.Add(bench.LocalPort, failures)
			} else {
				theirs.Add(bench.LocalPort, failures)
			}
			f.end()
		}
	}
	reportMetrics(b, answered, failed, theirs)
}

// measureCut cuts a host's network for a time, and returns the time in ms from its return until a client was answered that started after
// the cut began, and how many of these clients failed. The
// time is that of outageLimit if no such client was answered.
func measureCut(b *testing.B, host *netns.Host, cut time.Duration, ask func() error) (took, failed float64) {
	b.Helper()
	type result struct {
		startTime, endTime time.Time
		err                error
	}
	clients := startClientStream(clientInterval, func() result {
		startTime := time.Now()
		err := ask()
		return result{startTime, time.Now(), err}
	})
	cutTime := time.Now()
	host.SetLink(false)
	time.Sleep(cut)
	host.SetLink(true)
	upTime := time.Now()
	isAnswered := func(r result) bool { return r.err == nil && r.endTime.After(upTime) }
	eventually(b, "a client is answered again", func() bool { return clients.count(isAnswered) > 0 })
	took = ms(outageLimit)
	for _, r := range clients.stop() {
		switch {
		case !r.startTime.After(cutTime):
		case r.err != nil:
			failed++
		case r.endTime.After(upTime):
			took = min(took, ms(r.endTime.Sub(upTime)))
		}
	}
	return took, failed
}

// askOn asks a server of greetLines from a host.
func askOn(host *netns.Host, addr string) error {
	conn, err := host.Dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, "you"); err != nil {
		return err
	}
	return receiveBytes(conn, len("hello you\n"))
}
