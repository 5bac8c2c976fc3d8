package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/localport-sh/localport/cmd/localport/internal/doctor"
	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/sshd"
)

// doctorEnv is an environment in which localport is in PATH, as the first program of ~/.local/bin.
type doctorEnv struct {
	*testEnv
	bin string
}

func newDoctorEnv(t *testing.T) *doctorEnv {
	w := &doctorEnv{testEnv: newTestEnv(t)}
	w.bin = filepath.Join(w.home, ".local/bin")
	if err := os.MkdirAll(w.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.exe, filepath.Join(w.bin, "localport")); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "SHELL=/bin/bash", "PATH="+w.bin+":"+os.Getenv("PATH"))
	w.writeFile(w.home, ".bashrc", "eval \"$(localport hook bash)\"\n")
	return w
}

// diagnose returns what doctor has found, by the id of the check: all that is no success.
func (w *doctorEnv) diagnose(dir string, args ...string) map[string][]doctor.Finding {
	w.t.Helper()
	o := w.localport(dir, append([]string{"doctor", "--json"}, args...)...)
	return w.parseFindings(o)
}

func (w *doctorEnv) parseFindings(o commandResult) map[string][]doctor.Finding {
	w.t.Helper()
	var result struct{ Checks []doctor.Finding }
	if err := json.Unmarshal([]byte(o.stdout), &result); err != nil {
		w.t.Fatalf("%v: exit %d\n%s%s", err, o.code, o.stdout, o.stderr)
	}
	found, hasFailed := make(map[string][]doctor.Finding), false
	for _, f := range result.Checks {
		if !slices.Contains(doctor.IDs(), f.ID) {
			w.t.Errorf("the check %q is unknown", f.ID)
		}
		if f.Status == doctor.Warn || f.Status == doctor.Fail {
			found[f.ID] = append(found[f.ID], f)
			if f.Fix == "" {
				w.t.Errorf("%s has no fix: %s", f.ID, f.Text)
			}
		}
		hasFailed = hasFailed || f.Status == doctor.Fail
	}
	if wantCode := map[bool]int{true: 1}[hasFailed]; o.code != wantCode {
		w.t.Errorf("doctor: exit %d, want %d", o.code, wantCode)
	}
	return found
}

// requireFinding returns the only finding of a check, whose text must contain want. On a busy machine a check may take longer than it may at first,
// and killed processes may not have been reaped yet.
func (w *doctorEnv) requireFinding(dir, id string, status doctor.Status, want string) doctor.Finding {
	w.t.Helper()
	var found []doctor.Finding
	eventually(w.t, fmt.Sprintf("%s finds %s with %q", id, status, want), func() bool {
		found = w.diagnose(dir)[id]
		return len(found) == 1 && found[0].Status == status && strings.Contains(found[0].Text, want)
	})
	return found[0]
}

// commandIn returns the command of a fix, which may stand behind what it is for: "make the key readable only by you: chmod 600 key".
func commandIn(fix string) string {
	if _, command, found := strings.Cut(fix, ": "); found {
		return command
	}
	return fix
}

// fixAndCheck runs a fix as a user would, in a shell, and waits until the check finds nothing any more.
func (w *doctorEnv) fixAndCheck(dir string, f doctor.Finding) {
	w.t.Helper()
	cmd := exec.Command("sh", "-c", commandIn(f.Fix))
	cmd.Dir, cmd.Env = dir, w.env
	if o := w.run(cmd); o.code != 0 {
		w.t.Fatalf("%s: %s: exit %d\n%s%s", f.ID, f.Fix, o.code, o.stdout, o.stderr)
	}
	var left []doctor.Finding
	eventually(w.t, fmt.Sprintf("%s finds nothing after %q", f.ID, f.Fix), func() bool {
		left = w.diagnose(dir)[f.ID]
		return len(left) == 0
	})
}

func TestDoctor_HookIsFoundAndAdded(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	if found := w.diagnose("/"); len(found["hook"]) > 0 {
		t.Errorf("with the line: %+v", found["hook"])
	}
	w.writeFile(w.home, ".bashrc", "# eval \"$(localport hook bash)\"\n")
	w.fixAndCheck("/", w.requireFinding("/", "hook", doctor.Warn, "does not load the hook"))
	w.writeFile(w.home, ".bashrc", "eval \"$(localport hook bash)\"\nPROMPT_COMMAND='history -a'\n")
	w.fixAndCheck("/", w.requireFinding("/", "hook", doctor.Warn, "replaces what runs at each prompt"))
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	sh := w.shell("bash", root)
	file := filepath.Join(w.home, "findings")
	if code := sh.Run(w.exe + " doctor --json >" + file); code != 0 {
		t.Errorf("exit %d: %s", code, sh.Output())
	}
	if data, _ := os.ReadFile(file); !strings.Contains(string(data), "loaded in this bash") {
		t.Errorf("in a shell with the hook: %s", data)
	}
}

// runFix runs a fix as a user does who pastes it into a shell.
func (w *doctorEnv) runFix(shell, fix string) {
	w.t.Helper()
	cmd := exec.Command(shell, "-c", fix)
	cmd.Dir, cmd.Env = "/", w.env
	if o := w.run(cmd); o.code != 0 {
		w.t.Errorf("%s: %s: exit %d\n%s%s", shell, fix, o.code, o.stdout, o.stderr)
	}
}

// reportedFix returns the fix of a check in the text for bug reports.
func (w *doctorEnv) reportedFix(id string) string {
	w.t.Helper()
	text := w.localport("/", "doctor", "--report").stdout
	_, after, _ := strings.Cut(text, "\nwarn "+id+" ")
	_, fix, isFound := strings.Cut(after, "fix: ")
	fix, _, _ = strings.Cut(fix, "\n")
	if !isFound {
		w.t.Fatalf("no fix of %s in\n%s", id, text)
	}
	return fix
}

func eachPastingShell(t *testing.T, f func(t *testing.T, w *doctorEnv, shell string)) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed", shell)
			}
			w := newDoctorEnv(t)
			w.env = append(w.env, "SHELL="+path)
			f(t, w, shell)
		})
	}
}

func TestDoctor_FixesWorkInEachShell(t *testing.T) {
	t.Parallel()
	eachPastingShell(t, func(t *testing.T, w *doctorEnv, shell string) {
		// A home directory whose name every shell must quote.
		w.home = filepath.Join(w.home, `it's $HOME \ (!x)`)
		link := filepath.Join(w.home, ".local/bin/localport")
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		w.env = append(w.env, "HOME="+w.home, "XDG_CONFIG_HOME=", "XDG_STATE_HOME="+w.home+"/state dir", "XDG_RUNTIME_DIR="+w.home+"/run dir", "ZDOTDIR=")
		if err := os.MkdirAll(filepath.Join(w.home, "run dir"), 0o700); err != nil {
			t.Fatal(err)
		}
		fixed := func(id string, f doctor.Finding, fix string) {
			t.Helper()
			if strings.Contains(fix, w.home) || !strings.Contains(fix, "~/") {
				t.Errorf("%s names the home directory: %s", id, fix)
			}
			w.runFix(shell, fix)
			if left := w.diagnose("/")[id]; len(left) > 0 {
				t.Errorf("%s after %q: %+v", id, f.Fix, left)
			}
		}
		f := w.requireFinding("/", "hook", doctor.Warn, "does not load the hook")
		fixed("hook", f, w.reportedFix("hook"))
		w.env = append(w.env, "PATH="+filepath.Dir(link)+":/usr/bin:/bin")
		f = w.requireFinding("/", "path", doctor.Warn, "not in PATH")
		fixed("path", f, f.Fix)
		w.writeFile(filepath.Join(w.home, "run dir"), "localport", "")
		f = w.requireFinding("/", "runtime-dir", doctor.Warn, "is not a directory")
		fixed("runtime-dir", f, f.Fix)
		if err := os.RemoveAll(filepath.Join(w.home, "state dir/localport")); err != nil {
			t.Fatal(err)
		}
		w.writeFile(filepath.Join(w.home, "state dir"), "localport", "")
		f = w.requireFinding("/", "state-dir", doctor.Fail, "is not a directory")
		fixed("state-dir", f, f.Fix)
		file, future := filepath.Join(w.home, "state dir/localport/file"), time.Now().Add(time.Hour)
		w.writeFile(filepath.Dir(file), "file", "")
		if err := os.Chtimes(file, future, future); err != nil {
			t.Fatal(err)
		}
		f = w.requireFinding("/", "clock", doctor.Warn, "in the future")
		fixed("clock", f, w.reportedFix("clock"))
	})
}

func TestDoctor_AddsItsDirectoryToPATHInEachShell(t *testing.T) {
	t.Parallel()
	eachPastingShell(t, func(t *testing.T, w *doctorEnv, shell string) {
		dir := filepath.Join(w.home, "my programs")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		program := filepath.Join(dir, "localport")
		if err := os.Symlink(w.exe, program); err != nil {
			t.Fatal(err)
		}
		w.env = append(w.env, "PATH=/usr/bin:/bin")
		w.exe = program
		f := w.requireFinding("/", "path", doctor.Warn, "not in PATH")
		w.runFix(shell, f.Fix)
		cmd := exec.Command(shell, "-ic", "localport version")
		cmd.Dir, cmd.Env = "/", w.env
		if o := w.run(cmd); o.code != 0 || o.stdout == "" {
			t.Errorf("after %s: exit %d\n%s%s", f.Fix, o.code, o.stdout, o.stderr)
		}
	})
}

func TestDoctor_HookOfShellsWithOtherDirectories(t *testing.T) {
	t.Parallel()
	eachPastingShell(t, func(t *testing.T, w *doctorEnv, shell string) {
		elsewhere := filepath.Join(t.TempDir(), "dot files")
		w.env = append(w.env, "ZDOTDIR="+elsewhere, "XDG_CONFIG_HOME="+elsewhere)
		if shell == "bash" { // it knows neither
			if err := os.Remove(filepath.Join(w.home, ".bashrc")); err != nil {
				t.Fatal(err)
			}
		}
		f := w.requireFinding("/", "hook", doctor.Warn, "does not load the hook")
		w.runFix(shell, f.Fix)
		if left := w.diagnose("/")["hook"]; len(left) > 0 {
			t.Errorf("after %q: %+v", f.Fix, left)
		}
		cmd := exec.Command(shell, "-ic", map[string]string{"bash": "declare -F", "zsh": "functions", "fish": "functions -a"}[shell])
		cmd.Dir, cmd.Env = "/", w.env
		if o := w.run(cmd); !strings.Contains(o.stdout, "__localport") {
			t.Errorf("%s does not load the hook after %s: %s%s", shell, f.Fix, o.stdout, o.stderr)
		}
	})
}

func TestDoctor_WithoutAUsableHome(t *testing.T) {
	t.Parallel()
	eachPastingShell(t, func(t *testing.T, w *doctorEnv, shell string) {
		w.env = append(w.env, "ZDOTDIR=", "XDG_CONFIG_HOME=", "XDG_STATE_HOME=")
		base := w.env
		w.env = append(base, "HOME=/dev/null")
		f := w.requireFinding("/", "hook", doctor.Warn, "HOME is /dev/null, which is not a directory")
		if !strings.Contains(f.Fix, "localport hook "+shell) || strings.Contains(f.Fix, ">>") {
			t.Errorf("HOME=/dev/null: %+v", f)
		}
		w.runFix(shell, f.Fix)
		f = w.requireFinding("/", "state-dir", doctor.Fail, "/dev/null")
		if !strings.HasPrefix(f.Fix, "set HOME to your home directory") {
			t.Errorf("HOME=/dev/null: %+v", f)
		}
		readOnly := filepath.Join(t.TempDir(), "home")
		if err := os.Mkdir(readOnly, 0o555); err != nil {
			t.Fatal(err)
		}
		w.env = append(base, "HOME="+readOnly)
		f = w.requireFinding("/", "hook", doctor.Warn, "does not load the hook")
		if isRoot := os.Getuid() == 0; strings.Contains(f.Text, "you may not write to it") == isRoot || strings.Contains(f.Fix, ">>") != isRoot {
			t.Errorf("a home directory that is not writable: %+v", f)
		}
		w.runFix(shell, f.Fix)
		if os.Getuid() != 0 {
			f = w.requireFinding("/", "state-dir", doctor.Fail, "permission denied")
			w.runFix(shell, f.Fix)
			if left := w.diagnose("/")["state-dir"]; len(left) > 0 {
				t.Errorf("after %q: %+v", f.Fix, left)
			}
		}
		w.env = slices.DeleteFunc(slices.Clone(base), func(v string) bool { return strings.HasPrefix(v, "HOME=") })
		for _, f := range w.diagnose("/")["hook"] { // of the home directory in the password database
			if !strings.Contains(f.Text, "/") || strings.Contains(f.Text, " .") || strings.Contains(f.Fix, " .") {
				t.Errorf("HOME is not set: %+v", f)
			}
		}
	})
}

func TestDoctor_PathIsCorrected(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	link := filepath.Join(w.bin, "localport")
	w.env = append(w.env, "PATH="+w.bin+":/usr/bin:/bin")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	w.fixAndCheck("/", w.requireFinding("/", "path", doctor.Warn, "not in PATH"))
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := executable.WriteFile(link, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.fixAndCheck("/", w.requireFinding("/", "path", doctor.Warn, "PATH finds "+link))
	second := filepath.Join(w.home, "second")
	if err := os.Mkdir(second, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := executable.WriteFile(filepath.Join(second, "localport"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+w.bin+":"+second+":/usr/bin:/bin")
	w.fixAndCheck("/", w.requireFinding("/", "path", doctor.Warn, "several"))
}

func TestDoctor_ProjectIsAllowedAndCorrected(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.project(config + "remot_port = 1\n")
	f := w.requireFinding(root, "config", doctor.Fail, "remot_port")
	if !strings.Contains(f.Fix, "localport config validate") {
		t.Errorf("%+v", f)
	}
	w.writeFile(root, ".localport.toml", config)
	if found := w.diagnose(root)["config"]; len(found) > 0 {
		t.Errorf("after the correction: %+v", found)
	}
	w.fixAndCheck(root, w.requireFinding(root, "trust", doctor.Fail, "new or changed"))
	if _, hasProject := w.diagnose("/")["trust"]; hasProject {
		t.Error("trust is checked outside of a project")
	}
}

func TestDoctor_SupervisorThatDoesNotAnswerIsReplaced(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.stopSupervisor(root, w.waitKeeper(root))
	w.fixAndCheck(root, w.requireFinding(root, "supervisor", doctor.Fail, "did not answer"))
}

func TestDoctor_PortIsFreed(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	other := exec.Command(w.exe, fmt.Sprint(port))
	other.Env = []string{upstreamVariable + "=1", "GOCOVERDIR=" + t.TempDir()}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = other.Wait() }()
	defer func() { _ = other.Process.Kill(); <-ended }()
	eventually(t, "the port is taken", func() bool { return len(w.diagnose(root)["ports"]) > 0 })
	f := w.requireFinding(root, "ports", doctor.Fail, fmt.Sprintf("pid %d", other.Process.Pid))
	w.fixAndCheck(root, f)
}

func TestDoctor_ProgramsAreMissed(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	complete := w.env
	root := w.allowedProject("[services.k]\ntechnology = \"kubectl\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection = { resource_name = \"web\", context = \"c\", engine = \"kubectl\" }\n" +
		"[services.s]\ntechnology = \"ssh\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection.host = \"h.invalid\"\n")
	w.env = append(w.env, "PATH="+w.bin)
	for id, want := range map[string]string{"kubectl": "kubectl: not found in PATH", "ssh": "ssh: not found in PATH"} {
		if f := w.requireFinding(root, id, doctor.Fail, want); !strings.HasPrefix(f.Fix, "install ") {
			t.Errorf("%+v", f)
		}
	}
	if found := w.diagnose("/"); len(found["ssh"])+len(found["kubectl"]) > 0 {
		t.Errorf("outside of a project they are not needed: %+v", found)
	}
	w.env = complete
	if found := w.diagnose(root); len(found["ssh"])+len(found["kubectl"]) > 0 {
		t.Errorf("with the programs: %+v", found)
	}
}

func TestDoctor_KeyOfAHostIsCorrected(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	host := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	host.Authorize(key)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	root := w.allowedProject(strings.Replace(sshConfig("mail", ports.FreePort(t), host, 25), host.ConfigFile, host.WriteClientConfig("IdentityFile "+key), 1))
	config, err := os.ReadFile(filepath.Join(root, ".localport.toml"))
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(own, []byte("UserKnownHostsFile "+host.KnownHosts+"\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\nIdentityFile "+key+"\nIdentitiesOnly yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(config), "config_file = \"")
	_, after, _ := strings.Cut(rest, "\"")
	w.writeFile(root, ".localport.toml", before+"config_file = \""+own+"\""+after)
	w.mustRun(root, "allow")
	w.fixAndCheck(root, w.requireFinding(root, "destinations", doctor.Fail, "bad permissions"))
}

func TestDoctor_RightToForwardInAClusterIsMissed(t *testing.T) {
	c := cluster.Start(t)
	w := newDoctorEnv(t)
	ns := c.Namespace(t)
	c.Deploy(t, cluster.Deployment{Name: "web", Namespace: ns, Replicas: 1})
	kubeconfig := c.User(t, "viewer", ns, `{apiGroups: [""], resources: [pods, services], verbs: [get, list, watch]}`)
	root := w.allowedProject(fmt.Sprintf("[services.web]\ntechnology = \"kubectl\"\nlocal_port = \"auto\"\nremote_port = 7000\n"+
		"connection = { namespace = %q, resource_name = \"web\", kubeconfig = %q }\n", ns, kubeconfig))
	f := w.requireFinding(root, "destinations", doctor.Fail, "may not forward ports")
	if !strings.Contains(f.Fix, "kubectl auth can-i --list") {
		t.Errorf("%+v", f)
	}
	c.User(t, "viewer", ns, `{apiGroups: [""], resources: [pods, services, pods/portforward], verbs: [get, list, watch, create]}`)
	eventually(t, "the right is seen", func() bool { return len(w.diagnose(root)["destinations"]) == 0 })
	c.APIServer.Kill()
	w.requireFinding(root, "destinations", doctor.Fail, "cannot be reached")
	if err := c.APIServer.Start(); err != nil { // the namespace is deleted at the end
		t.Fatal(err)
	}
}

func TestDoctor_FixRemovesWhatNobodyHolds(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	web := serve(t, "127.0.0.1:0")
	used := w.allowedProject(tcpConfig("web", ports.FreePort(t), web))
	killed := w.allowedProject(tcpConfig("web", ports.FreePort(t), web))
	vanished := w.allowedProject(tcpConfig("web", ports.FreePort(t), web))
	w.mustRun(used, "start")
	w.mustRun(vanished, "start")
	w.mustRun(vanished, "stop")
	before := w.processes()
	child := w.command(killed, "exec", "--", "sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command runs", func() bool { return len(w.state(killed).Leases) == 1 && w.service(killed, "web").IsReady() })
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} { // the keeper must not replace the supervisor, which would remove the lease
		for _, pid := range w.processes() {
			if !slices.Contains(before, pid) && pid != child.Process.Pid {
				_ = syscall.Kill(pid, signal)
			}
		}
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	eventually(t, "all are dead", func() bool { return len(w.processes()) <= len(before) })
	if err := os.RemoveAll(filepath.Join(vanished, ".localport.toml")); err != nil {
		t.Fatal(err)
	}
	lease := w.requireFinding("/", "leases", doctor.Warn, "1 lease of a process that has ended")
	var leftovers []doctor.Finding
	eventually(t, "a state directory, a socket and a run directory are found", func() bool { // when the killed processes have been reaped
		leftovers = w.diagnose("/")["leftovers"]
		return len(leftovers) == 3
	})
	for _, f := range leftovers {
		if f.Fix != "localport doctor --fix" {
			t.Errorf("%+v", f)
		}
	}
	w.env = append(w.env, "LOCALPORT_FIX=1")
	w.requireFinding("/", "leases", doctor.Warn, "1 lease") // the variable has fixed nothing
	w.fixAndCheck("/", lease)
	if found := w.diagnose("/")["leftovers"]; len(found) > 0 {
		t.Errorf("left: %+v", found)
	}
	if svc := w.service(used, "web"); !svc.IsReady() {
		t.Errorf("the service in use is %s", svc.State)
	}
}

func TestDoctor_LimitOfFilesIsRaised(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	diagnoseAfter := func(commands string) map[string][]doctor.Finding {
		cmd := exec.Command("sh", "-c", commands+"; exec localport doctor --json")
		cmd.Dir, cmd.Env = "/", w.env
		return w.parseFindings(w.run(cmd))
	}
	found := diagnoseAfter("ulimit -n 60")["files"]
	if len(found) != 1 || !strings.Contains(found[0].Text, "too few file descriptors") {
		t.Fatalf("got %+v", found)
	}
	if exec.Command("sh", "-c", "ulimit -n 60 && ulimit -n 1024").Run() != nil {
		if !strings.Contains(found[0].Fix, "limits.conf") {
			t.Errorf("this user cannot raise the limit: %+v", found)
		}
		return
	}
	if found := diagnoseAfter("ulimit -n 60; " + found[0].Fix)["files"]; len(found) > 0 {
		t.Errorf("after the fix: %+v", found)
	}
}

func TestDoctor_ClockThatWasSetBackIsNoticed(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	states, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*/lock"))
	if len(states) != 1 {
		t.Fatalf("found %v", states)
	}
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(states[0], future, future); err != nil {
		t.Fatal(err)
	}
	w.fixAndCheck("/", w.requireFinding("/", "clock", doctor.Warn, "in the future"))
}

func TestDoctor_BridgeThatDoesNotExistIsNamed(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.allowedProject(config + "bridge = \"nosuch0\"\n")
	w.requireFinding(root, "network", doctor.Warn, `no network interface "nosuch0"`)
	w.writeFile(root, ".localport.toml", config)
	if found := w.diagnose(root)["network"]; len(found) > 0 {
		t.Errorf("without the bridge: %+v", found)
	}
}

func TestDoctor_DirectoriesAreMadeUsable(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	w.writeFile(filepath.Join(w.home, "runtime"), "localport", "")
	w.fixAndCheck("/", w.requireFinding("/", "runtime-dir", doctor.Warn, "is not a directory"))
	if err := os.RemoveAll(filepath.Join(w.home, "state/localport")); err != nil {
		t.Fatal(err)
	}
	w.writeFile(filepath.Join(w.home, "state"), "localport", "")
	w.fixAndCheck("/", w.requireFinding("/", "state-dir", doctor.Fail, "is not a directory"))
}

func TestDoctor_ReportHasNoNames(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	root := w.allowedProject("[services.orders-db]\ntechnology = \"ssh\"\nlocal_port = \"auto\"\nremote_port = 5432\n" +
		"connection = { host = \"bastion.acme.invalid\", user = \"jane\", remote_host = \"${DB_PASSWORD}.internal\" }\n[services.api]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection.remote_host = \"10.1.2.3\"\n")
	w.env = append(w.env, "DB_PASSWORD=hunter22", "USER=jane")
	host, _ := os.Hostname()
	text := w.localport(root, "doctor", "--report").stdout
	for _, name := range []string{"bastion", "acme", "jane", "hunter22", "orders", "10.1.2.3", root, w.home} {
		if strings.Contains(text, name) {
			t.Errorf("the report has %q:\n%s", name, text)
		}
	}
	if strings.Contains(text, " "+host+" ") || !strings.Contains(text, "1 ssh, 1 tcp") {
		t.Errorf("got\n%s", text)
	}
	if text := w.localport(root, "doctor", "--report", "--with-names").stdout; !strings.Contains(text, "bastion.acme.invalid") || strings.Contains(text, "hunter22") {
		t.Errorf("with names:\n%s", text)
	}
}

// A flag that acts takes effect only where it is written: a variable that is left in the environment must not remove, stop or overwrite anything.
// Flags that a variable can set are listed here: they choose the project, what is shown and how, what is waited for, or a part of the services.
func TestGrammar_FlagsThatActAreNotInTheEnvironment(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&grammar{}, kong.DefaultEnvars("LOCALPORT"), kong.Vars{"version": "0"})
	if err != nil {
		t.Fatal(err)
	}
	harmless := strings.Fields(`config dir verbose log-level color output json watch tag service no-wait wait format follow lines since until level grep list path on-cd
		with-defaults report with-names if-project`)
	commands := 0
	var check func(node *kong.Node)
	check = func(node *kong.Node) {
		commands++
		for _, flag := range node.Flags {
			if len(flag.Envs) > 0 && !slices.Contains(harmless, flag.Name) {
				t.Errorf("%s --%s can be set by %v: if it acts it needs env:\"-\", else a word in this list", node.FullPath(), flag.Name, flag.Envs)
			}
		}
		for _, child := range node.Children {
			check(child)
		}
	}
	check(parser.Model.Node)
	if commands < 40 {
		t.Errorf("only %d commands were checked", commands)
	}
}

// A variable is tried for each flag of each command that acts: the command line is parsed as without it.
func TestGrammar_IgnoresVariablesOfActingFlags(t *testing.T) {
	for _, name := range []string{"FIX", "FORCE", "ALL", "YES", "SAVE", "KEPT", "RC_FILES", "PURGE", "DELETE", "REMOVE", "OVERWRITE"} {
		t.Setenv("LOCALPORT_"+name, "true")
	}
	for _, args := range [][]string{{"doctor"}, {"stop"}, {"uninstall"}, {"init"}, {"supervise"}, {"remove", "web"}} {
		var g grammar
		parser, err := kong.New(&g, kong.DefaultEnvars("LOCALPORT"), kong.Vars{"version": "0"})
		if err != nil {
			t.Fatal(err)
		}
		context, err := parser.Parse(args)
		if err != nil {
			t.Errorf("%v: %v", args, err)
			continue
		}
		for _, flag := range context.Flags() {
			if flag.IsBool() && flag.Target.Kind() == reflect.Bool && flag.Target.Bool() && !flag.HasDefault {
				t.Errorf("%v: --%s is set by the environment", args, flag.Name)
			}
		}
	}
}
