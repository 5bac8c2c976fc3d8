package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Kubectl runs the real kubectl as the administrator and returns what it printed. The test fails if it fails.
func (c *Cluster) Kubectl(tb testing.TB, args ...string) string {
	tb.Helper()
	return c.kubectl(tb, "", args...)
}

// Apply creates or changes objects, in YAML.
func (c *Cluster) Apply(tb testing.TB, objects string) {
	tb.Helper()
	c.kubectl(tb, objects, "apply", "--filename=-")
}

func (c *Cluster) kubectl(tb testing.TB, stdin string, args ...string) string {
	tb.Helper()
	// Not the test's context: it has ended when a test cleans up.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.dir) // it keeps what it learns of the API there
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		tb.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

var namespaces atomic.Int64

// Namespace makes a namespace, which ends with the test. Nobody waits for that.
func (c *Cluster) Namespace(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("test-%d", namespaces.Add(1))
	c.Kubectl(tb, "create", "namespace", name)
	tb.Cleanup(func() { c.Kubectl(tb, "delete", "namespace", name, "--wait=false") })
	return name
}
