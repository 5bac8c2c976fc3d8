package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/doctor"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// Each check has a test that breaks what it checks, sees the finding, does what the fix says and sees that it is gone.
func TestDoctor_EachCheckIsBrokenAndFixed(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("doctor*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	for _, id := range doctor.IDs() {
		isTried := false
		for _, text := range []string{`"%s", doctor.Warn, `, `"%s", doctor.Fail, `, `found := diagnoseAfter("ulimit -n 60")["%s"]`, `leftovers = w.diagnose("/")["%s"]`} {
			isTried = isTried || strings.Contains(source.String(), fmt.Sprintf(text, id))
		}
		if !isTried {
			t.Errorf("no test requires a finding of %s", id)
		}
	}
}

// requireNone waits until a check finds nothing any more.
func (w *doctorEnv) requireNone(dir, id, after string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%s finds nothing after %q", id, after), func() bool { return len(w.diagnose(dir)[id]) == 0 })
}

// quotedCommand returns the command that a fix has in quotes.
func quotedCommand(t *testing.T, fix string) string {
	t.Helper()
	match := regexp.MustCompile(`"((?:localport|ip) [^"]+)"`).FindStringSubmatch(fix)
	if match == nil {
		t.Fatalf("no command in %q", fix)
	}
	return match[1]
}

// runCommand runs a command line in a shell.
func (w *doctorEnv) runCommand(dir, line string) commandResult {
	w.t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = dir, w.env
	return w.run(cmd)
}

func TestDoctor_MistakeInTheConfigIsFoundAndCorrected(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.project(config + "remot_port = 1\nloca_port = 2\n")
	f := w.requireFinding(root, "config", doctor.Fail, "(and 1 more)")
	lines := strings.Count(config, "\n")
	o := w.runCommand(root, quotedCommand(t, f.Fix))
	for _, place := range []string{fmt.Sprintf(".localport.toml:%d:1: services.web.remot_port", lines+1), fmt.Sprintf(".localport.toml:%d:1: services.web.loca_port", lines+2)} {
		if o.code != 3 || !strings.Contains(o.stderr, place) {
			t.Errorf("%s: exit %d, want 3 and %s\n%s", f.Fix, o.code, place, o.stderr)
		}
	}
	w.writeFile(root, ".localport.toml", config)
	w.requireNone(root, "config", f.Fix)
}

func TestDoctor_ProgramIsInstalled(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	root := w.allowedProject("[services.k]\ntechnology = \"kubectl\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection = { resource_name = \"web\", context = \"c\", engine = \"kubectl\" }\n" +
		"[services.s]\ntechnology = \"ssh\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection.host = \"h.invalid\"\n")
	w.env = append(w.env, "PATH="+w.bin)
	install := func(name, script string) {
		t.Helper()
		if err := executable.WriteFile(filepath.Join(w.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f := w.requireFinding(root, "kubectl", doctor.Fail, "kubectl: not found in PATH")
	if !strings.HasPrefix(f.Fix, "install kubectl") {
		t.Errorf("%+v", f)
	}
	install("kubectl", "echo no such command >&2; exit 1")
	f = w.requireFinding(root, "kubectl", doctor.Warn, "does not print its version")
	if o := w.runCommand(root, f.Fix); o.code != 1 || o.stderr != "no such command\n" {
		t.Errorf("%s: exit %d, %s", f.Fix, o.code, o.stderr)
	}
	install("kubectl", `echo '{"clientVersion": {"gitVersion": "v1.33.4"}}'`)
	w.requireNone(root, "kubectl", f.Fix)
	f = w.requireFinding(root, "ssh", doctor.Fail, "ssh: not found in PATH")
	if !strings.HasPrefix(f.Fix, "install the OpenSSH client") {
		t.Errorf("%+v", f)
	}
	install("ssh", "echo Dropbear v2022.83 >&2")
	f = w.requireFinding(root, "ssh", doctor.Warn, "is not OpenSSH: Dropbear v2022.83")
	if f.Fix != "put OpenSSH's ssh first in PATH" {
		t.Errorf("%+v", f)
	}
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("ssh is not installed")
	}
	w.env = append(w.env, "PATH="+filepath.Dir(real)+":"+w.bin)
	w.requireNone(root, "ssh", f.Fix)
}

func TestDoctor_VersionOfTheSupervisor(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.withBuildOf(time.Date(2026, 1, 31, 12, 0, 0, 0, time.Local)).mustRun(root, "start")
	w.fixAndCheck(root, w.requireFinding(root, "supervisor", doctor.Warn, "another build than this program"))
	w.mustRun(root, "stop")
	older, newer := w.withRelease("1.2.0"), w.withRelease("1.3.0")
	newer.mustRun(root, "start")
	current := &doctorEnv{testEnv: older, bin: w.bin}
	f := current.requireFinding(root, "supervisor", doctor.Warn, "version 1.3.0, which is newer than this program, 1.2.0")
	if f.Fix != "install the newer version here too" {
		t.Errorf("%+v", f)
	}
	current = &doctorEnv{testEnv: newer, bin: w.bin}
	current.requireNone(root, "supervisor", f.Fix)
	w.mustRun(root, "stop")
	older.mustRun(root, "start")
	link := filepath.Join(w.bin, "localport") // the command of the fix is the newer release
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(newer.exe, link); err != nil {
		t.Fatal(err)
	}
	current.fixAndCheck(root, current.requireFinding(root, "supervisor", doctor.Warn, "version 1.2.0; this program is 1.3.0"))
}

func TestDoctor_SSHServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	host := sshd.Start(t)
	root := w.allowedProject(sshConfig("mail", ports.FreePort(t), host, 25))
	w.requireNone(root, "destinations", "nothing is broken")
	host.Kill()
	f := w.requireFinding(root, "destinations", doctor.Fail, "Connection refused")
	if f.Fix != "start sshd on the host, or correct host and port" {
		t.Errorf("%+v", f)
	}
	host.Restart()
	w.requireNone(root, "destinations", f.Fix)

	// A port that accepts connections, and says nothing.
	host.Kill()
	var silent net.Listener
	eventually(t, "the port is free", func() (ok bool) {
		var err error
		silent, err = net.Listen("tcp", host.Addr())
		return err == nil
	})
	f = w.requireFinding(root, "destinations", doctor.Warn, "took longer than 3s")
	silent.Close()
	if o := w.runCommand(root, f.Fix); o.code != 0 || !strings.Contains(o.stdout, "mail: stopped") {
		t.Errorf("%s: exit %d\n%s%s", f.Fix, o.code, o.stdout, o.stderr)
	}
	host.Restart()
	w.requireNone(root, "destinations", f.Fix)
}

// The clock of this machine is compared with that of an API server. What would set it is replaced by a program that sets the server's.
func TestDoctor_ClockDiffersFromThatOfAServer(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	synchronized := filepath.Join(w.home, "synchronized")
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		now := time.Now()
		if _, err := os.Stat(synchronized); err != nil {
			now = now.Add(10 * time.Minute)
		}
		rw.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		rw.Header().Set("Content-Type", "application/json")
		answer := map[string]any{"major": "1", "minor": "33", "gitVersion": "v1.33.4"}
		if strings.Contains(r.URL.Path, "selfsubjectaccessreviews") {
			rw.WriteHeader(http.StatusCreated)
			answer = map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "status": map[string]any{"allowed": true}}
		}
		_ = json.NewEncoder(rw).Encode(answer)
	}))
	t.Cleanup(server.Close)
	w.writeFile(w.home, "kubeconfig", fmt.Sprintf("current-context: c\nclusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]\n"+
		"users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n", server.URL))
	root := w.allowedProject(fmt.Sprintf("[services.web]\ntechnology = \"kubectl\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection = { resource_name = \"web\", kubeconfig = %q }\n",
		filepath.Join(w.home, "kubeconfig")))
	script := "#!/bin/sh\n[ \"$*\" = 'timedatectl set-ntp true' ] || exit 1\ntouch \"$HOME/synchronized\"\n"
	if err := executable.WriteFile(filepath.Join(w.bin, "sudo"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	w.fixAndCheck(root, w.requireFinding(root, "clock", doctor.Warn, "behind that of context c"))
}

func TestDoctor_BridgeIsCorrectedAsTheFixSays(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.allowedProject(config + "bridge = \"nosuch0\"\n")
	f := w.requireFinding(root, "network", doctor.Warn, `no network interface "nosuch0"`)
	command := quotedCommand(t, f.Fix)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is missing (Debian: iproute2)")
	}
	if o := w.runCommand(root, command); o.code != 0 || strings.Contains(o.stdout, "nosuch0") {
		t.Errorf("%s: exit %d\n%s%s", command, o.code, o.stdout, o.stderr)
	}
	w.writeFile(root, ".localport.toml", config)
	w.mustRun(root, "allow")
	w.requireNone(root, "network", f.Fix)
}
