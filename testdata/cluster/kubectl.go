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

// Kubectl runs the real kubectl as the administrator and returns its standard output. The test fails if kubectl does.
func (c *Cluster) Kubectl(tb testing.TB, args ...string) string {
	tb.Helper()
	return c.kubectl(tb, "", args...)
}

// Apply creates or changes the objects in a YAML text.
func (c *Cluster) Apply(tb testing.TB, objects string) {
	tb.Helper()
	c.kubectl(tb, objects, "apply", "--filename=-")
}

func (c *Cluster) kubectl(tb testing.TB, stdin string, args ...string) string {
	tb.Helper()
	// Not the test's context, which has ended when cleanup functions run.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.dir) // for its cache
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		tb.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

var namespaceCount atomic.Int64

// Namespace makes a namespace and returns its name. It is deleted after the test, which does not wait until it is gone.
func (c *Cluster) Namespace(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("test-%d", namespaceCount.Add(1))
	c.Kubectl(tb, "create", "namespace", name)
	tb.Cleanup(func() { c.Kubectl(tb, "delete", "namespace", name, "--wait=false") })
	return name
}
