package main

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

// eachDirection runs a test twice: the older program writes and this one reads, and the other way round.
func eachDirection(t *testing.T, test func(t *testing.T, writer, reader *testEnv)) {
	for name, older := range map[string]bool{"written by the older program": true, "written by this program": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := newOldTestEnv(t, oldRelease)
			if current := old.withCurrentBinary(oldRelease); older {
				test(t, old, current)
			} else {
				test(t, current, old)
			}
		})
	}
}

func TestCompatibility_OtherVersionReadsFilesOfAStoppedProject(t *testing.T) {
	eachDirection(t, func(t *testing.T, writer, reader *testEnv) {
		upstream := serve(t, "127.0.0.1:0")
		root := writer.allowedProject(tcpConfig("web", `"auto"`, upstream) + tcpConfig("api", ports.FreePort(t), upstream))
		other := "127.0.0.1:" + strings.TrimSpace(writer.mustRun(root, "port", "web"))
		holder, err := net.Listen("tcp", other) // so that start picks another port, which only the state file has
		if err != nil {
			t.Fatal(err)
		}
		writer.mustRun(root, "start")
		writer.mustRun(root, "stop", "api")
		addr := writer.document(root).service("web").Address
		writer.stopProject(root, addr)
		holder.Close()
		if addr == other {
			t.Fatal("start picked a port that is in use")
		}

		if status := reader.document(root); status.State != "stopped" || status.service("web").State != "stopped" || len(status.Leases) != 0 {
			t.Errorf("status is %+v", status)
		}
		if out := reader.mustRun(root, "events", "web"); !strings.Contains(out, "healthy") {
			t.Errorf("events printed %q", out)
		}
		reader.mustRun(root, "logs", "supervisor", "--grep", "ended")
		sh := reader.shell("bash", root) // entering starts services that were stopped
		if status := reader.document(root); status.State != "running" || status.service("web").Address != addr || !status.service("web").Held {
			t.Errorf("after entering status is %+v", status)
		}
		checkServed(t, addr)
		checkServed(t, reader.document(root).service("api").Address)
		sh.Exit("exit")
		reader.stopProject(root, addr)

		reader.mustRun(root, "deny")
		if o := writer.localport(root, "start"); o.code != output.ExitNotAllowed {
			t.Errorf("start after deny: exit %d, %s", o.code, o.stderr)
		}
		reader.mustRun(root, "allow")
		writer.mustRun(root, "start")
		writer.stopProject(root, addr)
	})
}

func TestCompatibility_OtherVersionReadsAndChangesStateOfARunningProject(t *testing.T) {
	eachDirection(t, func(t *testing.T, writer, reader *testEnv) {
		upstream := serve(t, "127.0.0.1:0")
		root := allowedProjectWithAllFiles(writer, "linger = 0.3\n"+tcpConfig("web", `"auto"`, upstream)+tcpConfig("api", ports.FreePort(t), upstream))
		first := writer.shell("bash", root)
		supervisor := writer.supervisor(root)
		port := first.Environ()["WEB_PORT"]
		second := reader.shell("zsh", root) // its lease and stamps are the other program's
		if env := second.Environ(); env["WEB_PORT"] != port {
			t.Errorf("WEB_PORT is %q in one shell and %q in the other", port, env["WEB_PORT"])
		}
		for _, w := range []*testEnv{writer, reader} {
			eventually(t, "the status has the leases of both shells", func() bool { return slices.Equal(w.document(root).kinds(), []string{"shell", "shell"}) })
			if status := w.document(root); status.Supervisor.PID != supervisor.PID {
				t.Errorf("status is %+v", status)
			}
		}
		runSilently(t, first, "true")
		runSilently(t, second, "true")
		reader.mustRun(root, "stop", "api")
		first.Run("true")
		second.Run("true")
		if hasVariable(first.Environ(), "API_PORT") || hasVariable(second.Environ(), "API_PORT") {
			t.Error("a shell has the variables of a service that was stopped")
		}
		writer.mustRun(root, "start", "api")
		first.Run("true")
		second.Run("true")
		if !hasVariable(first.Environ(), "API_PORT") || !hasVariable(second.Environ(), "API_PORT") {
			t.Error("a shell lacks the variables of a service that was started")
		}
		checkPromptsSettle(t, first, second)
		if writer.supervisor(root) != supervisor {
			t.Error("the supervisor was replaced")
		}
		reader.mustRun(root, "stop")
		writer.waitExit(supervisor)
		first.Run("true")
		second.Run("true")
		if status := writer.document(root); status.State != "stopped" {
			t.Error("a prompt started a stopped project")
		}
		if hasVariable(first.Environ(), "WEB_PORT") || hasVariable(second.Environ(), "WEB_PORT") {
			t.Error("a shell has the variables of a project that was stopped")
		}
		for _, sh := range []*shellpty.Shell{first, second} {
			sh.Run("cd /")
			sh.Exit("exit")
		}
		writer.stopProject(root)
	})
}

func TestCompatibility_RunningConfigIsHandedOverIfTheFileIsUnusable(t *testing.T) {
	eachDirection(t, func(t *testing.T, writer, reader *testEnv) {
		config := tcpConfig("web", `"auto"`, serve(t, "127.0.0.1:0"))
		root := writer.allowedProject(config)
		writer.mustRun(root, "start")
		writer.waitKeeper(root)
		addr := writer.document(root).service("web").Address
		writer.writeFile(root, ".localport.toml", "nonsense = ")
		first := reader.supervisor(root)
		reader.mustRun(root, "daemon", "restart")
		second := reader.supervisor(root)
		if second == first {
			t.Error("daemon restart did not replace the supervisor")
		}
		checkServed(t, addr)
		kill(t, second.PID)
		eventually(t, "another supervisor runs", func() bool {
			now := reader.document(root).Supervisor
			return now != nil && now.PID != second.PID
		})
		checkServed(t, addr)
		writer.writeFile(root, ".localport.toml", config)
		writer.stopProject(root, addr)
	})
}

// checkPromptsSettle runs prompts of two shells in turn, and fails the test if they keep running export: each would, if the two programs
// wrote stamps differently.
func checkPromptsSettle(t *testing.T, first, second *shellpty.Shell) {
	t.Helper()
	var before, after [2]uint64
	for range 3 {
		before = after
		for range 2 {
			runSilently(t, first, "true")
			runSilently(t, second, "true")
		}
		after = [2]uint64{reapedChildFaults(t, first.PID()), reapedChildFaults(t, second.PID())}
	}
	if after != before {
		t.Error("the prompts of the two hooks run export again and again")
	}
}
