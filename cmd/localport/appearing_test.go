package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/ports"
)

// A config appears between the project's root and the shell, as by git pull, and is approved from a subdirectory.
func TestPrompt_EntersAProjectThatAppearsAbove(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t)
		upstream := serve(t, "127.0.0.1:0")
		outer := w.project("linger = 0.1\n" + tcpConfig("outer", ports.FreePort(t), upstream))
		inner, deep := filepath.Join(outer, "a"), filepath.Join(outer, "a/b/c")
		if err := os.MkdirAll(deep, 0o755); err != nil {
			t.Fatal(err)
		}
		sh := w.shell(kind, deep)
		w.mustRun(deep, "allow")
		sh.Run("true")
		if sh.Environ()["OUTER_PORT"] == "" {
			t.Errorf("after allow the prompt printed %q", sh.Output())
		}
		supervisor := w.supervisor(outer)
		checkPromptsRunNothing(t, sh)
		w.writeFile(inner, ".localport.toml", "linger = 0.1\n"+tcpConfig("inner", ports.FreePort(t), upstream))
		sh.Run("true")
		if out := sh.Output(); !strings.Contains(out, "localport allow") {
			t.Errorf("when a config has appeared, the prompt printed %q", out)
		}
		w.waitExit(supervisor)
		w.mustRun(deep, "allow")
		sh.Run("true")
		if env := sh.Environ(); env["INNER_PORT"] == "" || env["OUTER_PORT"] != "" {
			t.Errorf("INNER_PORT is %q, OUTER_PORT is %q; the prompt printed %q", env["INNER_PORT"], env["OUTER_PORT"], sh.Output())
		}
		checkPromptsRunNothing(t, sh)
	})
}
