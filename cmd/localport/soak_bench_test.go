//go:build linux

package main

import (
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// BenchmarkSoak makes 5,000 connections, 50 reloads and 50 tunnels of one supervisor in each iteration, and compares its memory, descriptors and
// goroutines after the last iteration with those after the first. `just soak` has twenty, and takes some ten minutes. The localport is the test
// binary, because a release does not tell its goroutines; before each reading it gives unused memory back.
func BenchmarkSoak(b *testing.B) {
	if *tableDir == "" {
		b.Skip("it needs -table DIR")
	}
	report := bench.Start(comparedPrograms)
	soaked := &bench.Table{}
	w := newTestEnv(b)
	w.env = append(w.env, resourcesVariable+"="+b.TempDir())
	s := &soak{testEnv: w, b: b, host: sshd.Start(b), echo: startEchoServers(b, 2), local: ports.FreePort(b), sshLocal: ports.FreePort(b)}
	s.root = w.project(s.config(0))
	w.mustRun(s.root, "allow")
	w.mustRun(s.root, "start")
	w.waitKeeper(s.root)
	const conns, reloads, tunnels = 5000, 50, 50
	var readings []resources
	for b.Loop() {
		startTime := time.Now()
		s.connect(conns)
		connected := time.Now()
		s.reload(reloads)
		reloaded := time.Now()
		s.openTunnels(tunnels)
		readings = append(readings, s.read())
		fmt.Printf("# iteration %d: connections %.1f s, reloads %.1f s, tunnels %.1f s: %v\n", len(readings),
			connected.Sub(startTime).Seconds(), reloaded.Sub(connected).Seconds(), time.Since(reloaded).Seconds(), readings[len(readings)-1])
	}
	n, first, last := len(readings), readings[0], readings[len(readings)-1]
	name := fmt.Sprintf("after %d connections, %d reloads, %d tunnels: ", n*conns, n*reloads, n*tunnels)
	for _, figure := range []struct {
		what          string
		after, before int
	}{{"memory", last.memory, first.memory}, {"anonymous memory", last.anonymous, first.anonymous}, {"heap", last.heap, first.heap}, {"descriptors", last.files, first.files}, {"goroutines", last.goroutines, first.goroutines}} {
		c := soaked.Measure(name+figure.what, fmt.Sprintf("of what they were after %d", conns), bench.AtMost(1.05))
		c.Add(bench.LocalPort, float64(figure.after)/float64(figure.before))
	}
	path, err := report.Write(*tableDir, "-soak", soaked)
	fmt.Printf("\n%s\n%s\n", soaked, path)
	mustAll(b, err)
	w.mustRun(s.root, "stop")
}

// soak is a project with a service of the technology "tcp" and one of "ssh".
type soak struct {
	*testEnv
	b               *testing.B
	host            *sshd.Server
	echo            []int // ports of two servers
	root            string
	local, sshLocal int
	reloads         int // so far
}

// config returns the config after the nth reload: the first service's upstream and a variable alternate.
func (s *soak) config(n int) string {
	return tcpConfig("web", s.local, &server{port: s.echo[n%2]}) + sshConfig("db", s.sshLocal, s.host, s.echo[0]) + fmt.Sprintf("[env]\nRELOADS = \"%d\"\n", n)
}

func (s *soak) connect(n int) {
	for range n {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.local))
		mustAll(s.b, err)
		mustAll(s.b, echoByte(conn), conn.(*net.TCPConn).SetLinger(0), conn.Close()) // a reset leaves no port in TIME_WAIT
	}
}

func (s *soak) reload(n int) {
	for range n {
		s.reloads++
		s.writeFile(s.root, ".localport.toml", s.config(s.reloads))
		s.mustRun(s.root, "allow")
		eventually(s.b, "the new config is in use", func() bool {
			return strings.Contains(s.mustRun(s.root, "env", "--format", "docker"), fmt.Sprintf("RELOADS=%d\n", s.reloads))
		})
	}
}

// openTunnels opens n tunnels of the technology "ssh", one after the other.
func (s *soak) openTunnels(n int) {
	for range n {
		s.mustRun(s.root, "restart", "db")
		mustAll(s.b, echoOnce(fmt.Sprintf("127.0.0.1:%d", s.sshLocal)))
	}
}

// read returns the supervisor's resources when it has no connection and has returned free memory to the system: those of the reading with the least
// memory of three.
func (s *soak) read() (r resources) {
	eventually(s.b, "no connection is open", func() bool {
		for _, svc := range s.status(s.root).Services {
			if svc.Connections.Open > 0 {
				return false
			}
		}
		return true
	})
	r.memory = math.MaxInt
	for range 3 {
		time.Sleep(time.Second) // what ends after a connection or a reload has ended
		if now := s.reportedResources(s.supervisor(s.root).PID); now.memory < r.memory {
			r = now
		}
	}
	return r
}
