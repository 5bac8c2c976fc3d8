package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/testdata/ports"
)

// ownProcesses returns the supervisor and the keeper of a project.
func (w *testEnv) ownProcesses(root string) map[string]int {
	w.t.Helper()
	w.waitKeeper(root)
	return map[string]int{"supervisor": w.supervisor(root).PID, "keeper": w.state(root).Supervisor.Keeper}
}

func readProc(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestThreats_SupervisorAndKeeperWriteNoCoreDump(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	cmd := exec.Command("sh", "-c", `ulimit -c "$(ulimit -H -c)" && exec "$0" start`, w.exe)
	cmd.Dir, cmd.Env = root, w.env
	if o := w.run(cmd); o.code != 0 {
		t.Fatalf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
	for name, pid := range w.ownProcesses(root) {
		for line := range strings.Lines(readProc(t, pid, "limits")) {
			if fields := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && !slices.Contains([]string{"0", "1"}, fields[4]) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	w.mustRun(root, "stop")
}

func TestThreats_SecretsAreInNoArgumentEnvironmentOrReport(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	w := newTestEnv(t)
	root := w.project("[services.db]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 1\nconnection = { remote_host = \"127.0.0.1\" }\n" +
		"health_check = { type = \"postgres\", user = \"app\", password = \"${PASSWORD}\", database = \"${PASSWORD}\", interval = \"100ms\" }\n" +
		"[services.web]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 1\nconnection = { remote_host = \"${PASSWORD}.invalid\" }\n" +
		commandConfig(t, "own", `"auto"`) +
		"[env]\nDATABASE_URL = \"postgres://app:${PASSWORD}@${db.addr}/app\"\n")
	w.writeFile(root, ".env", "PASSWORD="+secret+"\n")
	w.mustRun(root, "allow")
	w.localport(root, "start", "--no-wait")
	eventually(t, "a service has failed", func() bool { return w.service(root, "web").LastError != "" })
	for name, pid := range w.ownProcesses(root) {
		for _, file := range []string{"cmdline", "environ"} {
			if strings.Contains(readProc(t, pid, file), secret) {
				t.Errorf("%s of the %s has the secret", file, name)
			}
		}
	}
	for _, args := range [][]string{
		{"status"},
		{"status", "--json"},
		{"status", "web"},
		{"status", "db", "--json"},
		{"why", "db"},
		{"why", "web"},
		{"why", "web", "--json"},
		{"events"},
		{"events", "--json"},
		{"logs"},
		{"logs", "--json"},
		{"logs", "supervisor"},
		{"metrics"},
		{"daemon", "status"},
		{"ls"},
		{"ls", "--json"},
		{"config", "show"},
		{"config", "show", "--json"},
		{"config", "validate"},
		{"config", "export", "--format", "toml"},
		{"config", "export", "--format", "yaml"},
		{"config", "export", "--format", "json"},
		{"doctor"},
		{"doctor", "--json"},
		{"doctor", "--report"},
		{"doctor", "--report", "--with-names"},
	} {
		if o := w.localport(root, args...); strings.Contains(o.stdout+o.stderr, secret) {
			t.Errorf("localport %s shows the secret:\n%s%s", strings.Join(args, " "), o.stdout, o.stderr)
		}
	}
	if out := w.mustRun(root, "env"); !strings.Contains(out, secret) {
		t.Errorf("env is the command that prints it, and did not:\n%s", out)
	}
	w.mustRun(root, "stop")
}

// filesOf calls visit with what LocalPort has written below the directories of the environment.
func (w *testEnv) filesOf(visit func(path string, info fs.FileInfo)) {
	w.t.Helper()
	for _, dir := range []string{"state/localport", "data/localport", "runtime/localport"} {
		err := filepath.WalkDir(filepath.Join(w.home, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				visit(path, info)
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			w.t.Error(err)
		}
	}
}

func TestThreats_FilesAndSocketsArePrivateWhateverTheUmask(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.project(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	for _, command := range []string{"allow", "start", "config backup", "status"} {
		cmd := exec.Command("sh", append([]string{"-c", `umask 000; exec "$0" "$@"`, w.exe}, strings.Fields(command)...)...)
		cmd.Dir, cmd.Env = root, w.env
		if o := w.run(cmd); o.code != 0 {
			t.Fatalf("%s: exit %d: %s%s", command, o.code, o.stdout, o.stderr)
		}
	}
	w.waitKeeper(root)
	count := 0
	w.filesOf(func(path string, info fs.FileInfo) {
		count++
		if info.Mode()&os.ModeSymlink == 0 && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Getuid() {
			t.Errorf("%s belongs to uid %d", path, owner)
		}
	})
	if count < 8 {
		t.Errorf("only %d files were found", count)
	}
	w.mustRun(root, "stop")
}

func TestThreats_AnotherUserReachesNothingNamespace(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("only root can run a program as another user")
	}
	w := newTestEnv(t)
	root := w.project(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "allow")
	w.mustRun(root, "start")
	socket := w.status(root).Supervisor.Socket
	// As if the user had opened his home directory: what LocalPort keeps in it must be closed nevertheless.
	for dir := w.home; dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"state", "data", "runtime"} {
		if err := os.Chmod(filepath.Join(w.home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	w.filesOf(func(path string, info fs.FileInfo) {
		if info.Mode().IsRegular() {
			paths = append(paths, path)
		}
	})
	attack := func(uid uint32) string {
		t.Helper()
		cmd := exec.Command("sh", append([]string{"-c", `
			cd / || exit 2
			for file; do if cat "$file" >/dev/null 2>&1; then echo "reads $file"; fi; done
			if perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new($ARGV[0])' "$0"; then echo "connects to $0"; fi
			if kill -0 "$SUPERVISOR" 2>/dev/null; then echo "signals the supervisor"; fi
			if cat "/proc/$SUPERVISOR/environ" >/dev/null 2>&1; then echo "reads the environment of the supervisor"; fi`, socket}, paths...)...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("SUPERVISOR=%d", w.supervisor(root).PID))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("uid %d: %v: %s", uid, err, out)
		}
		return string(out)
	}
	if out := attack(0); strings.Count(out, "\n") != len(paths)+3 {
		t.Errorf("the owner cannot do all of it:\n%s", out)
	}
	if out := attack(65534); out != "" {
		t.Errorf("another user:\n%s", out)
	}
	w.mustRun(root, "stop")
}

// Whoever changes the modes of the directory and the socket by mistake gives no other user the control of LocalPort. The supervisor restores them
// soon, so that the other user has a capability with which modes do not matter.
func TestThreats_SupervisorAnswersNoOtherUserNamespace(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	socket := w.status(root).Supervisor.Socket
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(socket); dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(uid uint32) string {
		t.Helper()
		cmd := exec.Command("perl", "-MIO::Socket::UNIX", "-e", `chdir "/"; my $s = IO::Socket::UNIX->new($ARGV[0]) or die "connect: $!"; $SIG{PIPE} = "IGNORE";
			print $s "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"; $s->flush; print while <$s>`, socket)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, AmbientCaps: []uintptr{unix.CAP_DAC_OVERRIDE}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("uid %d: %v: %s", uid, err, out)
		}
		return string(out)
	}
	if out := ask(0); !strings.Contains(out, "200 OK") {
		t.Errorf("the owner gets %q", out)
	}
	if out := ask(65534); out != "" {
		t.Errorf("another user gets %q", out)
	}
	w.mustRun(root, "stop")
}

// A web page reaches TCP ports of this machine, also by DNS rebinding, and no unix socket.
func TestThreats_ControlAPIIsOnNoTCPPort(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	web, metrics := ports.FreePort(t), ports.FreePort(t)
	root := w.allowedProject(fmt.Sprintf("metrics_port = %d\n", metrics) + tcpConfig("web", web, serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	declared := []string{fmt.Sprintf("127.0.0.1:%d", web), fmt.Sprintf("[::1]:%d", web), fmt.Sprintf("127.0.0.1:%d", metrics)}
	for name, pid := range w.ownProcesses(root) {
		for _, addr := range listeningAddresses(t, pid) {
			if !slices.Contains(declared, addr) {
				t.Errorf("the %s listens on %s", name, addr)
			}
		}
	}
	for _, addr := range declared {
		if out := askHTTP(addr, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); strings.Contains(out, "supervisor") {
			t.Errorf("%s answers as the control API:\n%s", addr, out)
		}
	}
	w.mustRun(root, "stop")
}

// listeningAddresses returns the TCP addresses on which a process listens.
func listeningAddresses(t *testing.T, pid int) (addrs []string) {
	t.Helper()
	out, err := exec.Command("ss", "-Hltnp").CombinedOutput()
	if err != nil {
		t.Fatalf("ss: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); strings.Contains(line, fmt.Sprintf("pid=%d,", pid)) {
			addrs = append(addrs, fields[3])
		}
	}
	if len(addrs) == 0 {
		t.Errorf("process %d listens nowhere:\n%s", pid, out)
	}
	return addrs
}

func askHTTP(addr, request string) string {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(request)); err != nil {
		return ""
	}
	buf := make([]byte, 4096)
	n, _ := conn.Read(buf)
	return string(buf[:n])
}
