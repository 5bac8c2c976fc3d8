package daemon

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/lockstate"
)

// roleVariable makes TestHelper_HangsWithServer start a server and hang, in a process that TestServer_EndsWithKilledTest starts.
const roleVariable = "LOCALPORT_TEST_ROLE"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shellServer returns a server that is a shell script; $1 is its port.
func shellServer(t testing.TB, script string) Spec {
	return Spec{
		Dir:       NewDir(t, "sh"),
		Argv:      func(port int) []string { return []string{"/bin/sh", "-c", script, "sh", fmt.Sprint(port)} },
		ReadyText: "listening",
	}
}

func TestHelper_HangsWithServer(t *testing.T) {
	if os.Getenv(roleVariable) == "" {
		return
	}
	s := Start(t, shellServer(t, "echo listening; exec sleep 1000"))
	fmt.Println("server", s.Pid(), s.Dir)
	select {}
}

func TestServer_EndsWithKilledTest(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelper_HangsWithServer$")
	cmd.Env = append(os.Environ(), roleVariable+"=hang")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	lines := bufio.NewScanner(out)
	for pid == 0 && lines.Scan() {
		_, _ = fmt.Sscanf(lines.Text(), "server %d %s", &pid, &dir)
	}
	server, ok := lockstate.FindProcess(pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !ok {
		t.Fatal("the server did not run")
	}
	_ = os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := lockstate.WaitExit(ctx, server); err != nil {
		t.Errorf("process %d still runs", pid)
	}
}

func TestServer_ReplacesPortThatWasTakenMeanwhile(t *testing.T) {
	spec := shellServer(t, `test -e taken || { touch taken; echo 'bind: Address already in use'; exit 1; }; echo listening; exec sleep 1000`)
	var tried []int
	argv := spec.Argv
	spec.Argv = func(port int) []string {
		tried = append(tried, port)
		return argv(port)
	}
	s := Start(t, spec)
	if len(tried) != 2 || s.Port != tried[1] {
		t.Errorf("tried %v, has %d", tried, s.Port)
	}
	if _, port, _ := net.SplitHostPort(s.Addr()); port != fmt.Sprint(s.Port) {
		t.Errorf("at %s", s.Addr())
	}
}

func TestServer_OwnsItsDirectoryAndIsNotRoot(t *testing.T) {
	s := Start(t, shellServer(t, `id -u >user; echo "as $(cat user)"; echo listening; exec sleep 1000`))
	user, err := os.ReadFile(filepath.Join(s.Dir, "user"))
	if err != nil || string(user) == "0\n" || !strings.Contains(s.Log(), "as "+string(user)) {
		t.Errorf("%q, %v", user, err)
	}
}

func TestTemplate_IsFilledOnceAndCopiedWithModes(t *testing.T) {
	var template DirTemplate
	made := 0
	for range 2 {
		dir := NewDir(t, "template")
		template.Fill(t, dir, func() {
			made++
			Run(t, dir, "", "/bin/sh", "-c", "umask 077; mkdir private; echo hello >private/file")
		})
		if info, err := os.Stat(filepath.Join(dir, "private")); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info, err)
		}
		if out := Run(t, dir, "", "/bin/cat", "private/file"); out != "hello\n" {
			t.Errorf("read %q", out)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	_ = template.archive.Close()
}
