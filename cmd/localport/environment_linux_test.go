package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/ports"
)

// In another mount namespace KUBECONFIG or PATH may mean other files.
func TestEnvironment_OfAnotherMountNamespaceIsNotTaken(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("unshare --mount (Debian: util-linux; it needs root) is not possible: %v: %s", err, out)
	}
	w := newTestEnv(t)
	a := serve(t, "127.0.0.1:0")
	one, two := w.withEnv(fmt.Sprintf("UPSTREAM=%d", a.port)), w.withEnv(fmt.Sprintf("UPSTREAM=%d", serveBanner(t).port))
	port := ports.FreePort(t)
	root := one.allowedProject(strings.Replace(tcpConfig("web", port, a), fmt.Sprint("remote_port = ", a.port), `remote_port = "${UPSTREAM}"`, 1))
	one.mustRun(root, "start")
	cmd := two.command(root, "restart")
	cmd.Args, cmd.Path = append([]string{"unshare", "--mount", cmd.Path}, cmd.Args[1:]...), mustLookPath(t, "unshare")
	if o := two.run(cmd); o.code != output.ExitFailed || !strings.Contains(o.stderr, "another mount namespace") {
		t.Fatalf("restart: exit %d\n%s", o.code, o.stderr)
	}
	one.mustRun(root, "restart")
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", port), "you"); answer != "hello you\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

func mustLookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
