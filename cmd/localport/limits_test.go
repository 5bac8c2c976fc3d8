package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/ports"
)

// limitedConfig is a config of one service, whose table ends with more.
func limitedConfig(name, more string) string {
	return "[services." + name + "]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 1\nconnection.remote_host = \"127.0.0.1\"\n" + more
}

// What is too large is refused with a message of a few lines that names the file, before anything is done, and in less than a second.
func TestLimits_AreStatedAndReachedQuickly(t *testing.T) {
	t.Parallel()
	const tooLarge = "larger than 128 KiB, the limit for this file"
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(limitedConfig(fmt.Sprintf("a%d", i), ""))
		}
		return b.String()
	}
	for name, c := range map[string]struct{ config, dotEnv, want string }{
		"a config of 10 MB":          {config: strings.Repeat("# a comment that is long\n", 10<<20/25), want: tooLarge},
		"a line of 1 MB":             {config: "a = \"" + strings.Repeat("x", 1<<20) + "\"\n", want: tooLarge},
		"a line of 100 kB":           {config: "a = \"" + strings.Repeat("x", 100<<10) + "\"\n", want: ".localport.toml:1:1: a: unknown key"},
		"10,000 services":            {config: many(10_000), want: tooLarge},
		"a service's name of 64 kB":  {config: limitedConfig(strings.Repeat("n", 64<<10), ""), want: "the name has 65536 characters; use at most 200"},
		"a service's name of 201 B":  {config: limitedConfig(strings.Repeat("n", 201), ""), want: "the name has 201 characters; use at most 200"},
		"a key of 64 kB":             {config: limitedConfig("a", strings.Repeat("k", 64<<10)+" = 1\n"), want: "unknown key"},
		"arrays of 60,000 levels":    {config: "a = " + strings.Repeat("[", 60_000) + strings.Repeat("]", 60_000) + "\n", want: "nested more than the maximum of 10000 levels deep"},
		"tables of 30,000 levels":    {config: "[services.a" + strings.Repeat(".b", 30_000) + "]\nc = 1\n", want: ".localport.toml:1:"},
		"inline tables of 20,000":    {config: "a = " + strings.Repeat("{b=", 20_000) + "1" + strings.Repeat("}", 20_000) + "\n", want: "nested more than the maximum of 10000 levels deep"},
		"a .env of 10 MB":            {config: limitedConfig("a", ""), dotEnv: "A=" + strings.Repeat("x", 10<<20) + "\n", want: ".env: larger than 1 MiB, the limit for this file"},
		"an expansion of 1 GB":       {config: limitedConfig("a", "description = \"${A30}\"\n"), dotEnv: expandingDotEnv(30), want: ""},
		"50,000 lines that are none": {config: strings.Repeat("\"\n", 50_000), want: ".localport.toml:1:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.project(c.config)
			if c.dotEnv != "" {
				w.writeFile(root, ".env", c.dotEnv)
			}
			for _, args := range [][]string{{"config", "validate"}, {"status"}, {"export", "bash"}, {"allow"}} {
				cmd := exec.Command(w.exe, args...)
				cmd.Dir, cmd.Env = root, w.env
				o := w.run(cmd)
				// Processor time, of which a busy machine does not use more; the race detector makes it five times as much.
				if took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); took > 5*time.Second {
					t.Errorf("%v: %v", args, took)
				} else {
					t.Logf("%v: %v", args, took)
				}
				if c.want != "" && args[0] != "export" && (o.code == 0 || !strings.Contains(o.stderr, c.want)) {
					t.Errorf("%v: exit %d: %.600s%.600s", args, o.code, o.stdout, o.stderr)
				}
				if len(o.stdout)+len(o.stderr) > 20<<10 || strings.Contains(o.stderr, "goroutine ") {
					t.Errorf("%v: %d bytes of output: %.1000s", args, len(o.stdout)+len(o.stderr), o.stderr)
				}
			}
		})
	}
}

// expandingDotEnv has n variables, each of twice the length of the one before.
func expandingDotEnv(n int) string {
	b := strings.Builder{}
	b.WriteString("A0=x\n")
	for i := range n {
		fmt.Fprintf(&b, "A%d=${A%d}${A%d}\n", i+1, i, i)
	}
	return b.String()
}

func TestLimits_NameOfTwoHundredBytesAndTwoHundredServicesWork(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	upstream := serve(t, "127.0.0.1:0")
	long, port := strings.Repeat("n", 200), ports.FreePort(t)
	var config strings.Builder
	config.WriteString(tcpConfig(long, port, upstream))
	for i := range 199 {
		config.WriteString(tcpConfig(fmt.Sprintf("s%d", i), `"auto"`, upstream))
	}
	root := w.allowedProject(config.String())
	w.mustRun(root, "start")
	checkServed(t, fmt.Sprintf("127.0.0.1:%d", port))
	status := w.status(root)
	if len(status.Services) != 200 {
		t.Errorf("%d services", len(status.Services))
	}
	for _, svc := range status.Services {
		if svc.State != forwarder.Healthy {
			t.Errorf("%.20s is %s: %s", svc.Name, svc.State, svc.LastError)
		}
		if svc.Name == long {
			if _, err := os.Stat(svc.Log); err != nil && !os.IsNotExist(err) {
				t.Errorf("its log: %v", err)
			}
		}
	}
	w.mustRun(root, "logs", long)
	w.mustRun(root, "stop")
}
