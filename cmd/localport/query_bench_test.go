//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/bench"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/postgres"
)

// BenchmarkExecFirstQuery measures the time of `localport exec -- psql` in a project that is down, until psql has printed the answer,
// compared with a forward that is started by hand, waited for, and used by psql.
func BenchmarkExecFirstQuery(b *testing.B) {
	results := resultsOf(b)
	if why := psqlProgram.Missing(); why != "" {
		b.Skip(why)
	}
	b.Run("ssh", func(b *testing.B) {
		database := postgres.Start(b, postgres.Options{})
		s := sshBenchmark(b)
		local, theirs := ports.FreePort(b), ports.FreePort(b)
		root := s.project("linger = 0.001\n" + sshConfig("db", local, s.host, database.Port))
		argv := []string{
			"ssh", "-N", "-S", "none", "-F", s.host.ConfigFile, "-p", fmt.Sprint(s.host.Port), "-l", s.host.User,
			"-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:%d", theirs, database.Port), s.host.Host,
		}
		c := results.Compare("exec to the first query", "ms", bench.Peer{Name: "ssh + psql", Goal: bench.AtMost(1)})
		compareFirstQuery(b, s.releaseEnv, root, c, psqlCommand(local, "app"), func() {
			forward := startProgram(b, argv)
			waitListening(b, theirs)
			runQuery(b, psqlCommand(theirs, "app"))
			forward.stop()
		})
	})
	b.Run("kubectl", func(b *testing.B) {
		k := kubeBenchmark(b)
		k.Deploy(b, cluster.Deployment{Name: "db", Namespace: k.ns, Image: k.EnsureImage(b, cluster.Postgres)})
		local, theirs := ports.FreePort(b), ports.FreePort(b)
		root := k.releaseEnv.project(fmt.Sprintf("linger = 0.001\n[services.db]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 5432\n"+
			"connection = { namespace = %q, resource_name = \"db\" }\n", local, k.ns))
		argv := []string{"kubectl", "--kubeconfig", k.Kubeconfig(), "port-forward", "-n", k.ns, "service/db", fmt.Sprintf("%d:5432", theirs)}
		c := results.Compare("exec to the first query", "ms", bench.Peer{Name: "kubectl + psql", Goal: bench.AtMost(1)})
		compareFirstQuery(b, k.releaseEnv, root, c, psqlCommand(local, "postgres"), func() {
			forward := startProgram(b, argv)
			waitListening(b, theirs)
			runQuery(b, psqlCommand(theirs, "postgres"))
			forward.stop()
		})
	})
}

// compareFirstQuery adds rounds to a comparison that has one peer.
func compareFirstQuery(b *testing.B, w releaseEnv, root string, c *bench.Comparison, query []string, byHand func()) {
	b.Helper()
	w.mustRun(root, "allow")
	for round := 0; b.Loop(); round++ {
		for _, name := range c.Order(round) {
			startTime := time.Now()
			if name == bench.LocalPort {
				w.measure(b, root, w.exe, append([]string{"exec", "--"}, query...)...)
			} else {
				byHand()
			}
			c.Add(name, ms(time.Since(startTime)))
			if name == bench.LocalPort {
				eventually(b, "the supervisor has ended", func() bool { return w.state(root).Supervisor == nil })
			}
		}
	}
	reportMetrics(b, c)
}

func psqlCommand(port int, user string) []string {
	return []string{"psql", "-X", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", user, "-d", user, "-tAc", "select 1"}
}

func runQuery(b *testing.B, argv []string) {
	b.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "PGSSLMODE=disable")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1\n" {
		b.Fatalf("%v: %v: %s", argv, err, out)
	}
}

// waitListening waits until something listens on the port.
func waitListening(b *testing.B, port int) {
	b.Helper()
	mustAll(b, retryUntilSuccess(func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err
	}))
}
