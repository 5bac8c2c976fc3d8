package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/shellpty"
)

// shellEnvironment are the variables of a compatibleProject that a shell exports; the test sets URL outside of the project too.
type shellEnvironment struct{ web, url, diff string }

func readEnvironment(sh *shellpty.Shell) shellEnvironment {
	env := sh.Environ()
	return shellEnvironment{web: env["WEB_PORT"], url: env["URL"], diff: env["LOCALPORT_DIFF"]}
}

// runSilently runs a line and fails the test if LocalPort prints anything.
func runSilently(t *testing.T, sh *shellpty.Shell, line string) {
	t.Helper()
	sh.Run(line)
	if out := sh.Output(); strings.Contains(out, "localport") {
		t.Errorf("%s printed %q", line, out)
	}
}

// checkPromptsRunNothing runs prompts and fails the test if one starts a process.
func checkPromptsRunNothing(t *testing.T, sh *shellpty.Shell) {
	t.Helper()
	before := reapedChildFaults(t, sh.PID())
	for range 5 {
		runSilently(t, sh, "true")
	}
	if after := reapedChildFaults(t, sh.PID()); after != before {
		t.Error("a prompt where nothing has changed started a process")
	}
}

var setURL = map[string]string{"bash": "export URL=mine", "zsh": "export URL=mine", "fish": "set -gx URL mine"}

// A shell keeps the hook that it was started with, and the hook keeps calling localport by the same path.
func TestCompatibility_OpenShellContinuesWithOlderHook(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newOldTestEnv(t, oldRelease)
		p := newCompatibleProject(t, w)
		sh := w.shell(kind, w.home)
		sh.Run(setURL[kind])
		sh.Run("cd " + p.root)
		p.connect(t)
		inside := readEnvironment(sh)
		if inside.url != "tcp://"+p.addrs["web"] || inside.web == "" {
			t.Fatalf("inside URL=%q WEB_PORT=%q", inside.url, inside.web)
		}
		runSilently(t, sh, "true")
		supervisor := w.supervisor(p.root)
		w.upgrade()
		checkPromptsRunNothing(t, sh)
		p.checkUnaffected(w, "the upgrade")

		changeAndAllow(t, p, sh)
		p.checkUnaffected(w, "a change that was allowed")

		checkInheritedEnvironment(t, w, kind, sh)
		remaining := w.shell("bash", p.root) // so that the project does not end before the other shell returns
		runSilently(t, sh, "cd "+w.home)
		if env := readEnvironment(sh); env != (shellEnvironment{url: "mine"}) {
			t.Errorf("after leaving the shell has %+v", env)
		}
		sh.Run("cd " + p.root)
		remaining.Run("cd /")
		remaining.Exit("exit")
		if env := readEnvironment(sh); env.web != inside.web || env.url != inside.url {
			t.Errorf("after returning the shell has %+v, had %+v", env, inside)
		}
		p.checkUnaffected(w, "leaving and returning")
		if w.supervisor(p.root) != supervisor {
			t.Error("the older supervisor was replaced by the same release")
		}
		p.checkNoneRefused(t, time.Time{})
		p.disconnect()
		sh.Run("cd " + w.home)
		w.waitExit(supervisor)
		w.checkNothingLeft(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
		sh.Run("cd " + p.root)
		if env := readEnvironment(sh); env.web != inside.web {
			t.Errorf("the port was %s and is %s in the next run", inside.web, env.web)
		}
		checkServed(t, p.addrs["box"])
		w.mustRun(p.root, "stop")
		sh.Run("true")
		if env := readEnvironment(sh); env != (shellEnvironment{url: "mine"}) {
			t.Errorf("after stop the shell has %+v", env)
		}
		sh.Run("cd " + w.home)
		sh.Exit("exit")
		w.stopProject(p.root)
	})
}

// changeAndAllow adds a variable to the config and checks that the shell has it once the change is allowed, and not before. Prompts then
// run nothing: this program's stamps are what the older hook expects.
func changeAndAllow(t *testing.T, p *compatibleProject, sh *shellpty.Shell) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.root, ".localport.toml"))
	if err != nil {
		t.Fatal(err)
	}
	p.w.writeFile(p.root, ".localport.toml", string(text)+"MORE = \"of it\"\n")
	p.w.writeFile(p.root, ".localport.local.toml", "[services.web]\ndescription = \"the web\"\n")
	sh.Run("true")
	if out := sh.Output(); !strings.Contains(out, "localport allow") {
		t.Errorf("the prompt after a change printed %q", out)
	}
	p.w.mustRun(p.root, "allow")
	sh.Run("true")
	if env := sh.Environ(); env["MORE"] != "of it" || env["URL"] != "tcp://"+p.addrs["web"] {
		t.Errorf("after allow MORE=%q URL=%q", env["MORE"], env["URL"])
	}
	checkPromptsRunNothing(t, sh)
}

// checkInheritedEnvironment starts a shell outside of the project with the environment of one that is inside.
func checkInheritedEnvironment(t *testing.T, w *testEnv, kind string, sh *shellpty.Shell) {
	t.Helper()
	inside := sh.Environ()
	nested := *w
	nested.env = append(slices.Clone(w.env), "LOCALPORT_DIFF="+inside["LOCALPORT_DIFF"], "WEB_PORT="+inside["WEB_PORT"], "URL="+inside["URL"])
	nestedShell := nested.shell(kind, w.home)
	if env := readEnvironment(nestedShell); env != (shellEnvironment{url: "mine"}) {
		t.Errorf("a shell outside that inherited the environment has %+v", env)
	}
	nestedShell.Exit("exit")
}

func TestCompatibility_NewerReleaseReplacesAtAPromptOfAnOlderHook(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newOldTestEnv(t, "1.1.0").withPromptLimit("60s")
		p := newCompatibleProject(t, w)
		waiting, sh := w.shell(kind, p.root), w.shell(kind, p.root)
		p.connect(t)
		inside := readEnvironment(sh)
		runSilently(t, waiting, "true")
		first := w.supervisor(p.root)
		w.upgrade()
		runSilently(t, sh, "cd "+w.home)
		sh.Run("cd " + p.root)
		takeoverTime := time.Now()
		second := w.supervisor(p.root)
		if status := w.document(p.root); second == first || status.Supervisor.Version != "1.1.0" {
			t.Fatalf("after the newer release the supervisor is %+v", status.Supervisor)
		}
		runSilently(t, waiting, "true")
		for _, one := range []*shellpty.Shell{sh, waiting} {
			if env := readEnvironment(one); env != inside {
				t.Errorf("a shell had %+v and has %+v", inside, env)
			}
		}
		if kinds := w.document(p.root).kinds(); !slices.Equal(kinds, []string{"shell", "shell"}) {
			t.Errorf("the leases are %v", kinds)
		}
		p.checkUnaffected(w, "the newer release")
		checkPromptsRunNothing(t, waiting)
		if w.supervisor(p.root) != second {
			t.Error("the supervisor was replaced once more")
		}

		p.checkNoneRefused(t, takeoverTime)
		p.disconnect()
		w.waitExit(first)
		kill(t, second.PID)
		p.waitReplacement(w, second.PID)
		runSilently(t, waiting, "true")
		p.checkUnaffected(w, "kill")
		third := w.supervisor(p.root)
		runSilently(t, sh, "cd "+w.home)
		runSilently(t, waiting, "cd "+w.home)
		w.waitExit(third)
		w.checkNothingLeft(p.root, p.addrs["web"], p.addrs["own"], p.addrs["box"])
	})
}
