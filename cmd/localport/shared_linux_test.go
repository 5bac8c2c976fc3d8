package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
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
