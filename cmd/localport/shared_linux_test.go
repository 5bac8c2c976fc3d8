package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/ports"
)

// The supervisor of another network namespace listens on another loopback: what it has is of no use here, even if the target is the same.
func TestShared_NothingIsBorrowedFromAnotherNetworkNamespace(t *testing.T) {
	t.Parallel()
	args := []string{"unshare", "--net"}
	if os.Geteuid() != 0 {
		args = append(args, "--user", "--map-current-user")
	}
	if out, err := exec.CommandContext(t.Context(), args[0], append(args[1:], "ip", "link", "set", "lo", "up")...).CombinedOutput(); err != nil {
		t.Skipf("unshare --net and ip (Debian: util-linux, iproute2; a user other than root needs user namespaces) are not possible: %v: %s", err, out)
	}
	w := newTestEnv(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	roots := w.projectsWithSameConfig(2, tcpConfig("web", taken.Addr().(*net.TCPAddr).Port, serve(t, "127.0.0.1:0")))
	elsewhere := w.command(roots[0], "start", "--no-wait")
	elsewhere.Args = append(append(args, "sh", "-c", `ip link set lo up && exec "$0" "$@"`), elsewhere.Args...)
	elsewhere.Path = mustLookPath(t, args[0])
	if o := w.run(elsewhere); o.code != 0 || !w.service(roots[0], "web").Held {
		t.Fatalf("in another network namespace: exit %d, %s", o.code, o.stderr)
	}
	o := w.localport(roots[1], "start")
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	if leases := w.borrowedLeases(roots[0]); len(leases) > 0 {
		t.Errorf("leases: %+v", leases)
	}
}

// A supervisor that does not respond has the ports. It is asked a few times for each, not by every service all the time: each of its requests would
// have to be answered when it continues.
func TestShared_NamesAHolderThatDoesNotRespond(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	names, config := []string{"one", "two", "three"}, ""
	for _, name := range names {
		config += tcpConfig(name, ports.FreePort(t), serve(t, "127.0.0.1:0"))
	}
	roots := w.projectsWithSameConfig(2, config)
	holder, other := roots[0], roots[1]
	w.mustRun(holder, "start")
	supervisor := w.stopSupervisor(holder)
	o := w.localport(other, "start")
	reason := fmt.Sprintf("by the project of %s/.localport.toml (localport, pid %d), which does not respond", holder, supervisor.PID)
	hint := fmt.Sprintf("localport daemon restart (in %s); binding is retried every second", holder)
	if o.code != output.ExitFailed || !strings.Contains(o.stderr, reason) || !strings.Contains(o.stderr, hint) {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	// A listening socket's queue holds what has connected and was not accepted, even if it has ended since.
	out, err := exec.CommandContext(t.Context(), "ss", "-Hxl", "src", w.state(holder).Supervisor.Socket).CombinedOutput()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 3 {
		t.Fatalf("ss: %v: %s", err, out)
	}
	connections, err := strconv.Atoi(fields[2])
	t.Logf("%d connections", connections)
	if limit := 10 * len(names); err != nil || connections == 0 || connections > limit {
		t.Errorf("%d connections, want 1 to %d: %s", connections, limit, out)
	}
	w.mustRun(holder, "daemon", "restart") // what the hint says
	w.requireOneHolder(roots, "one")
}
