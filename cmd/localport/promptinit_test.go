package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// Every cd pays for the packages that are initialised before the prompt's command runs.
func TestPrompt_InitialisesOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	w := newReleaseEnv(t).testEnv
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	cmd := w.command(root, "export", "bash", "--pid", strconv.Itoa(os.Getpid()))
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	o := w.run(cmd)
	if o.code != 0 || !strings.Contains(o.stdout, "WEB_PORT") {
		t.Fatalf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if !strings.Contains(o.stderr, "init github.com/localport-sh/localport/project @") {
		t.Fatalf("inittrace printed no initialisation:\n%s", o.stderr)
	}
	for line := range strings.Lines(o.stderr) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "init" {
			continue
		}
		for _, unused := range []string{
			"github.com/localport-sh/localport/forwarder/kubectl/", "github.com/localport-sh/localport/forwarder/supervisor",
			"google.golang.org/", "k8s.io/", "sigs.k8s.io/", "net/http",
		} {
			if strings.HasPrefix(fields[1], unused) {
				t.Errorf("%s was initialised", fields[1])
			}
		}
	}
}

// The libraries of full-screen programs build tables when they are initialised. Every start of the program would pay for them, and top must not.
func TestTop_CostsOtherCommandsNoInitialisation(t *testing.T) {
	t.Parallel()
	w := newReleaseEnv(t).testEnv
	root := w.allowedProject(tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0")))
	for _, args := range [][]string{
		{"export", "bash", "--pid", strconv.Itoa(os.Getpid())}, {"hook", "bash"}, {"env"}, {"port", "web"}, {"status"}, {"exec", "true"},
	} {
		cmd := w.command(root, args...)
		cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
		o := w.run(cmd)
		if !strings.Contains(o.stderr, "init github.com/localport-sh/localport/project @") {
			t.Fatalf("%v: inittrace printed no initialisation:\n%s", args, o.stderr)
		}
		for line := range strings.Lines(o.stderr) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[0] != "init" {
				continue
			}
			// "init PACKAGE @1.2 ms, 0.1 ms clock, 64 bytes, 2 allocs"
			allocations, _ := strconv.Atoi(fields[len(fields)-2])
			isTop := strings.HasSuffix(fields[1], "/cmd/localport/internal/top")
			isScreenLibrary := strings.HasPrefix(fields[1], "charm.land/") || strings.HasPrefix(fields[1], "github.com/charmbracelet/")
			if isTop && allocations > 8 || isScreenLibrary {
				t.Errorf("%v: %s", args, line)
			}
		}
	}
}
