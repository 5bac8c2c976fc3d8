package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/shellhook"
	"github.com/localport-sh/localport/testdata/ports"
)

// As when a worktree is removed, or an older branch is checked out, while `start` holds a lease.
func TestDeletedProject_IsFoundByItsState(t *testing.T) {
	type projectPaths struct{ root, link string }
	for name, c := range map[string]struct {
		isDirDeleted bool
		args         func(projectPaths) []string
		in           func(projectPaths) string // the directory of the command; nil: outside the project
	}{
		"file deleted, in the directory": {in: func(p projectPaths) string { return p.root }},
		"file deleted, below":            {in: func(p projectPaths) string { return filepath.Join(p.root, "sub") }},
		"file deleted, -C":               {args: func(p projectPaths) []string { return []string{"-C", p.root} }},
		"file deleted, -c":               {args: func(p projectPaths) []string { return []string{"-c", filepath.Join(p.root, ".localport.toml")} }},
		"directory deleted, -C":          {isDirDeleted: true, args: func(p projectPaths) []string { return []string{"-C", p.root} }},
		"directory deleted, -C below":    {isDirDeleted: true, args: func(p projectPaths) []string { return []string{"-C", filepath.Join(p.root, "sub")} }},
		"directory deleted, -c":          {isDirDeleted: true, args: func(p projectPaths) []string { return []string{"-c", filepath.Join(p.root, ".localport.toml")} }},
		"directory deleted, -C through a link": {
			isDirDeleted: true, args: func(p projectPaths) []string { return []string{"-C", filepath.Join(p.link, "shop")} },
		},
		"directory deleted, relative -C": {
			isDirDeleted: true, args: func(projectPaths) []string { return []string{"-C", "shop"} },
			in: func(p projectPaths) string { return filepath.Dir(p.root) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestEnv(t)
			root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
			p := projectPaths{root, filepath.Join(w.home, "link")}
			if err := os.Symlink(filepath.Dir(root), p.link); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(root, "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			w.mustRun(root, "start")
			w.waitKeeper(root)
			supervisor := w.supervisor(root)
			var args []string
			if c.args != nil {
				args = c.args(p)
			}
			dir := w.home
			if c.in != nil {
				dir = c.in(p)
			}
			deleted := filepath.Join(root, ".localport.toml")
			if c.isDirDeleted {
				deleted = root
			}
			if err := os.RemoveAll(deleted); err != nil {
				t.Fatal(err)
			}
			if c.isDirDeleted {
				// The supervisor may have ended by itself because its directory was deleted; stop then finds no project.
				if o := w.localport(dir, append(args, "stop")...); o.code != 0 && supervisor.IsAlive() {
					t.Errorf("stop: exit %d\n%s", o.code, o.stderr)
				}
			} else {
				if out := w.mustRun(dir, append(args, "status", "--json")...); !strings.Contains(out, `"state": "running"`) {
					t.Errorf("status printed\n%s", out)
				}
				if o := w.localport(dir, append(args, "start")...); o.code != output.ExitFailed || !strings.Contains(o.stderr, "no such file") {
					t.Errorf("start: exit %d\n%s", o.code, o.stderr)
				}
				w.mustRun(dir, append(args, "stop")...)
			}
			w.waitExit(supervisor)
			eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
			w.checkNothingLeft(root)
			if o := w.localport(dir, append(args, "status")...); o.code != output.ExitFailed || o.stderr == "" {
				t.Errorf("status after stop: exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
		})
	}
}

func TestDeletedProject_IsStoppedFromItsDeletedDirectory(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	w.waitKeeper(root)
	supervisor := w.supervisor(root)
	cmd := exec.Command("sh", "-c", `rm -rf "$PWD"; exec "$0" stop`, w.exe)
	cmd.Dir, cmd.Env = root, append(slices.Clip(w.env), "PWD="+root)
	o := w.run(cmd)
	if o.code != 0 && supervisor.IsAlive() {
		t.Errorf("stop: exit %d\n%s", o.code, o.stderr)
	}
	w.waitExit(supervisor)
}

func TestDeletedProject_IsDenied(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	config := tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0"))
	root := w.allowedProject(config)
	w.mustRun(root, "start")
	w.waitKeeper(root)
	if err := os.Remove(filepath.Join(root, ".localport.toml")); err != nil {
		t.Fatal(err)
	}
	w.mustRun(root, "deny")
	eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	w.writeFile(root, ".localport.toml", config)
	if o := w.localport(root, "start"); o.code != output.ExitNotAllowed {
		t.Errorf("start: exit %d\n%s", o.code, o.stderr)
	}
}

// A lease that remains after supervisor and keeper were killed can be removed too.
func TestDeletedProject_ThatIsStoppedLosesItsLease(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	keeper, supervisor := w.waitKeeper(root), w.supervisor(root)
	w.stopProcess(keeper)
	kill(t, supervisor.PID)
	kill(t, keeper)
	eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	o := w.localport(w.home, "-C", root, "status")
	hint := "hint: localport -c '" + filepath.Join(root, ".localport.toml") + "' stop\n"
	if o.code != output.ExitFailed || !strings.HasSuffix(o.stderr, hint) {
		t.Errorf("status: exit %d\n%s, want %s", o.code, o.stderr, hint)
	}
	w.mustRun(w.home, "-c", filepath.Join(root, ".localport.toml"), "stop")
	if leases := w.state(root).Leases; len(leases) > 0 {
		t.Errorf("the leases are %+v", leases)
	}
}

func TestDeletedProject_StateIsRemovedAfterAWeekByTheEndOfAnotherProject(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	start := func() (root string) {
		root = w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		w.mustRun(root, "start")
		return root
	}
	stop := func(root string) {
		w.mustRun(root, "stop")
		eventually(t, "every process has ended", func() bool { return len(w.processes()) == 0 })
	}
	root := start()
	stop(root)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	week := time.Now().AddDate(0, 0, -8)
	paths, _ := filepath.Glob(filepath.Join(w.home, "state/localport/projects/*"))
	if len(paths) != 1 {
		t.Fatalf("state directories: %v", paths)
	}
	record := `{"first":"` + week.Format(time.RFC3339) + `","last":"` + week.AddDate(0, 0, 7).Format(time.RFC3339) + `","count":7}`
	w.writeFile(paths[0], "absent", record)
	if err := os.Remove(filepath.Join(paths[0], shellhook.PromptLink)); err != nil { // whose time is that of the last use too
		t.Fatal(err)
	}
	for _, path := range append(w.filesBelow(paths[0]), filepath.Join(w.home, "state/localport/last-sweep")) {
		if err := os.Chtimes(path, week, week); err != nil {
			t.Fatal(err)
		}
	}
	other := start()
	stop(other)
	if _, err := os.Stat(paths[0]); !os.IsNotExist(err) {
		t.Errorf("stat of the state directory: %v", err)
	}
	if w.state(other).Config == "" {
		t.Error("the other project's state is gone")
	}
	if records := w.filesBelow(filepath.Join(w.home, "data/localport/trust")); len(records) < 2 {
		t.Errorf("records of allowed projects: %v", records)
	}
}

// filesBelow returns the paths of all regular files below a directory.
func (w *testEnv) filesBelow(dir string) (files []string) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}
