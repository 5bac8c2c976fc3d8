package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

const rcHookLine = "eval \"$(localport hook bash)\"\n"

// newUninstallEnv returns an environment with a project that runs, settings, and a start-up file, and the project's root.
func newUninstallEnv(t *testing.T) (w *testEnv, root string) {
	t.Helper()
	w = newTestEnv(t)
	root = w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	w.writeFile(w.home, ".bashrc", "a=1\n"+rcHookLine+"if true; then\n  "+rcHookLine+"fi\n")
	settings := filepath.Join(w.home, "config/localport")
	if err := os.MkdirAll(settings, 0o700); err != nil {
		t.Fatal(err)
	}
	w.writeFile(settings, "config.toml", "")
	return w, root
}

// checkUninstalled checks that only what belongs to the user is left.
func (w *testEnv) checkUninstalled(root string) {
	w.t.Helper()
	eventually(w.t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	for _, dir := range []string{"state/localport", "data/localport", "runtime/localport"} {
		if _, err := os.Lstat(filepath.Join(w.home, dir)); !os.IsNotExist(err) {
			w.t.Errorf("%s: %v, %q", dir, err, w.filesBelow(filepath.Join(w.home, dir)))
		}
	}
	for _, path := range []string{filepath.Join(root, ".localport.toml"), filepath.Join(w.home, "config/localport/config.toml")} {
		if _, err := os.Stat(path); err != nil {
			w.t.Error(err)
		}
	}
}

func TestUninstall_ShowsAndChangesNothingUnlessAsked(t *testing.T) {
	t.Parallel()
	w, root := newUninstallEnv(t)
	w.env = append(w.env, "LOCALPORT_YES=true", "LOCALPORT_RC_FILES=true") // no flag that acts is taken from the environment
	var o commandResult
	eventually(t, "the supervisor has the lock no more, with which it saves its state", func() bool {
		o = w.localport("/", "uninstall")
		return !strings.Contains(o.stdout, "its lock is held")
	})
	if o.code != 0 || o.stderr != "localport: nothing was removed\nhint: localport uninstall --yes\n" {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	for _, want := range []string{
		"~/state/localport (", "~/data/localport/trust (", "~/runtime/localport (",
		"Projects: 1, 1 in use, 0 whose config no longer exists\n  " + root + "/.localport.toml: a supervisor is running\n",
		"~/.bashrc:2: " + rcHookLine, "~/.bashrc:4: " + rcHookLine + "    remove this one by hand",
		"kept            ~/config/localport/config.toml", "Program: " + w.exe + "\n  to remove it: rm " + w.exe,
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in\n%s", want, o.stdout)
		}
	}
	if got := w.status(root).State; got != "running" {
		t.Errorf("the project is %s", got)
	}
}

func TestUninstall_StopsEverythingAndRemovesIt(t *testing.T) {
	t.Parallel()
	w, root := newUninstallEnv(t)
	second := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(second, "start")
	w.waitKeeper(second)
	scripts := filepath.Join(w.home, "config/fish/completions")
	if err := os.MkdirAll(scripts, 0o700); err != nil {
		t.Fatal(err)
	}
	w.writeFile(scripts, "localport.fish", w.mustRun("/", "completion", "fish"))
	w.writeFile(scripts, "other.fish", "")
	if o := w.localport("/", "uninstall", "--yes"); o.code != 0 {
		t.Fatalf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	w.checkUninstalled(root)
	if data, err := os.ReadFile(filepath.Join(w.home, ".bashrc")); err != nil || strings.Count(string(data), rcHookLine) != 2 {
		t.Errorf("the start-up file has %q, error %v", data, err)
	}
	// Again: only lines are left, and what other tests have in /tmp/localport-UID.
	if o := w.localport("/", "uninstall", "--yes", "--rc-files"); o.code != 0 || strings.Contains(o.stdout, "~/state") || strings.Contains(o.stdout, "~/data") {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	data, err := os.ReadFile(filepath.Join(w.home, ".bashrc"))
	if want := "a=1\nif true; then\n  " + rcHookLine + "fi\n"; err != nil || string(data) != want {
		t.Errorf("the start-up file has %q, error %v", data, err)
	}
	if left := w.filesBelow(scripts); len(left) != 1 || filepath.Base(left[0]) != "other.fish" {
		t.Errorf("scripts: %q", left)
	}
	if o := w.localport("/", "uninstall"); strings.HasPrefix(o.stdout, "On disk: nothing\n") && (o.code != 0 || o.stderr != "") {
		t.Errorf("a third time: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

func TestUninstall_AsksAtATerminal(t *testing.T) {
	t.Parallel()
	w, root := newUninstallEnv(t)
	s := shellpty.Start(t, shellpty.Config{Shell: "bash", Dir: "/", Home: w.home, Env: w.env})
	waitFor := func(text string) {
		t.Helper()
		eventually(t, text, func() bool { return strings.Contains(strings.ReplaceAll(s.Screen(), "\n", ""), text) })
	}
	s.Type(w.exe + " uninstall\n")
	waitFor("Stop all projects and remove what is listed? (yes/no) ")
	s.Type("y\n")
	waitFor("localport: nothing was removed")
	if got := w.status(root).State; got != "running" {
		t.Errorf("after \"y\" the project is %s", got)
	}
	s.Type("clear; " + w.exe + " uninstall\n")
	waitFor("Stop all projects and remove what is listed? (yes/no) ")
	s.Type("yes\n")
	waitFor("Remove the lines from start-up files, and the scripts? (yes/no) ")
	s.Type("no\n")
	waitFor("localport: removed")
	s.Exit("exit")
	w.checkUninstalled(root)
	if _, err := os.Stat(filepath.Join(w.home, ".bashrc.before-localport-uninstall")); !os.IsNotExist(err) {
		t.Errorf("stat of a copy: %v", err)
	}
}

func TestUninstall_FollowsNoLinkAndKeepsProjects(t *testing.T) {
	t.Parallel()
	w, root := newUninstallEnv(t)
	state, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*"))
	outside := filepath.Join(w.home, "outside")
	work, backups := filepath.Join(w.home, "data/localport/trust/work"), filepath.Join(w.home, "data/localport/backups")
	for _, dir := range []string{outside, work, backups, filepath.Join(state[0], "shop")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w.writeFile(dir, "file", "")
	}
	w.writeFile(filepath.Join(state[0], "shop"), ".localport.toml", "")
	for _, link := range []string{filepath.Join(state[0], "link"), filepath.Join(w.home, "state/localport/projects/0123456789abcdef"), filepath.Join(w.home, "runtime/localport/link.sock")} {
		if err := os.Symlink(outside, link); err != nil {
			t.Fatal(err)
		}
	}
	o := w.localport("/", "uninstall", "--yes")
	if o.code != 1 || !strings.Contains(o.stderr, filepath.Join(state[0], "shop/.localport.toml")+" is not removed: it is a project's config") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if want := "kept            ~/data/localport/backups\n"; !strings.Contains(o.stdout, want) {
		t.Errorf("no %q in\n%s", want, o.stdout)
	}
	for _, path := range []string{filepath.Join(outside, "file"), filepath.Join(backups, "file"), filepath.Join(work, "file"), filepath.Join(state[0], "shop/file"), filepath.Join(root, ".localport.toml")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}
