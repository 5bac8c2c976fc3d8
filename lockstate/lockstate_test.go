package lockstate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/shellhook"
)

// TestMain lets the test binary act as a process that holds a lease and takes part in the election.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCALPORT_TEST_COVERDIR"); dir != "" {
		_ = os.Setenv("GOCOVERDIR", dir) // of the processes that tests start
	}
	if config := os.Getenv("LOCKSTATE_TEST_ENTER"); config != "" {
		os.Exit(enterAndHold(config))
	}
	if config := os.Getenv("LOCKSTATE_TEST_UPDATES"); config != "" {
		os.Exit(runUpdates(config))
	}
	goleak.VerifyTestMain(m)
}

// enterAndHold takes a lease, stands for election, prints its role, and runs until its stdin is closed.
func enterAndHold(config string) int {
	d, err := Open(config)
	if err != nil {
		println(err.Error())
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var election *Election
	_, err = d.Update(ctx, func(tx *Tx) error {
		tx.AddLease(Lease{Kind: ShellLease, Process: Self(), Since: time.Now()})
		if tx.IsSupervisorRunning() {
			return nil
		}
		election, err = tx.Elect()
		return err
	})
	if err != nil {
		println(err.Error())
		return 1
	}
	role := "member\n"
	if election != nil {
		role = "supervisor\n"
	}
	_, _ = os.Stdout.WriteString(role)
	_, _ = os.Stdin.Read(make([]byte, 1))
	runtime.KeepAlive(election)
	return 0
}

func openTestDir(t *testing.T) *Dir {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d, err := Open("/some/project/.localport.toml")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func update(t *testing.T, d *Dir, fn func(*Tx) error) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	st, err := d.Update(ctx, fn)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func requireNoError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readOnly(*Tx) error { return nil }

// testProcess is one of many processes that compete for the election.
type testProcess struct {
	cmd  *exec.Cmd
	in   *os.File
	out  *os.File
	role string
}

func (m *testProcess) end() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	m.in.Close()
	m.out.Close()
}

func startTestProcess(t *testing.T, config string) *testProcess {
	t.Helper()
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCKSTATE_TEST_ENTER="+config)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	return &testProcess{cmd: cmd, in: in, out: out}
}

func TestElect_FiftyProcessesElectOneAndKeepFiftyLeases(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		d := openTestDir(t)
		processes := make([]*testProcess, 50)
		for i := range processes {
			processes[i] = startTestProcess(t, d.Config)
		}
		var reading sync.WaitGroup
		for _, m := range processes {
			reading.Go(func() {
				buf := make([]byte, 32)
				n, _ := m.out.Read(buf)
				m.role = strings.TrimSpace(string(buf[:n]))
			})
		}
		reading.Wait()
		count := map[string]int{}
		for _, m := range processes {
			count[m.role]++
		}
		st := update(t, d, func(tx *Tx) error {
			if !tx.IsSupervisorRunning() {
				t.Error("nobody holds the election lock")
			}
			tx.PruneLeases()
			return nil
		})
		if count["supervisor"] != 1 || count["member"] != 49 || len(st.Leases) != 50 {
			t.Errorf("roles %v, %d leases", count, len(st.Leases))
		}
		for _, m := range processes {
			m.end()
		}
		st = update(t, d, func(tx *Tx) error {
			if tx.IsSupervisorRunning() {
				t.Error("the election lock outlived its holder")
			}
			tx.PruneLeases()
			return nil
		})
		if len(st.Leases) != 0 {
			t.Errorf("%d leases outlived their processes", len(st.Leases))
		}
	}
}

func TestIsSupervisorRunning_NeverMakesACandidateLose(t *testing.T) {
	d := openTestDir(t)
	var election *Election
	update(t, d, func(tx *Tx) (err error) {
		if tx.IsSupervisorRunning() {
			t.Error("alive before any election")
		}
		election, err = tx.Elect()
		return err
	})
	if election == nil {
		t.Fatal("not elected")
	}
	update(t, d, func(tx *Tx) error {
		if !tx.IsSupervisorRunning() {
			t.Error("not alive after the election")
		}
		other, err := tx.Elect()
		if other != nil {
			t.Error("elected twice")
		}
		return err
	})
	if err := election.Resign(); err != nil {
		t.Fatal(err)
	}
	update(t, d, func(tx *Tx) error {
		if tx.IsSupervisorRunning() {
			t.Error("alive after it resigned")
		}
		return nil
	})
}

func TestUpdate_KeepsAnUnusableStateFileWithAWarning(t *testing.T) {
	for name, text := range map[string]string{
		"empty":   "",
		"torn":    `{"version":1,"id":"abc","conf`,
		"foreign": `{"hello":"world"}`,
		"newer":   `{"version":99,"id":"x","config":"/some/project/.localport.toml"}`,
		"another": `{"version":1,"id":"x","config":"/other/.localport.toml"}`,
		"list":    `[]`,
		"binary":  "\x00\xff\x00",
	} {
		t.Run(name, func(t *testing.T) {
			d := openTestDir(t)
			path := filepath.Join(d.Path, "state.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			warning := ""
			st := update(t, d, func(tx *Tx) error {
				warning = tx.Warning
				tx.AddLease(Lease{Kind: StartLease})
				return nil
			})
			if warning == "" || len(st.Leases) != 1 {
				t.Errorf("warning %q, leases %v", warning, st.Leases)
			}
			aside, err := os.ReadFile(path + ".unusable")
			if err != nil || string(aside) != text {
				t.Errorf("kept: %q, %v", aside, err)
			}
			again := update(t, d, func(tx *Tx) error { warning = tx.Warning; return nil })
			if warning != "" || again.ID != st.ID {
				t.Errorf("the second update warned %q, id %s then %s", warning, st.ID, again.ID)
			}
		})
	}
}

func TestState_PathNeedNotBeUTF8(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for _, config := range []string{"/caf\xe9/.localport.toml", "/caf\xff/.localport.toml", "/café/.localport.toml"} {
		d, err := Open(config)
		requireNoError(t, err)
		first := update(t, d, incrementCount)
		last := update(t, d, incrementCount)
		if last.ID != first.ID || last.Ports["count"] != 2 {
			t.Errorf("%q: the state was recreated: %+v, then %+v", config, first, last)
		}
		if read, err := d.Read(); err != nil || read.Config != config {
			t.Errorf("%q: read %+v, %v", config, read, err)
		}
		data, err := os.ReadFile(d.path("state.json"))
		requireNoError(t, err)
		if isExtended := strings.Contains(string(data), "config_bytes"); isExtended == utf8.ValidString(config) {
			t.Errorf("%q: %s", config, data)
		}
	}
	dirs, err := ListDirs()
	if len(dirs) != 3 || err != nil {
		t.Errorf("found %v, %v", dirs, err)
	}
}

func TestUpdate_RecoversFromAnyStateFile(t *testing.T) {
	d := openTestDir(t)
	path := filepath.Join(d.Path, "state.json")
	rapid.Check(t, func(rt *rapid.T) {
		if err := os.WriteFile(path, rapid.SliceOf(rapid.Byte()).Draw(rt, "file"), 0o600); err != nil {
			rt.Fatal(err)
		}
		if st := update(t, d, readOnly); st.ID == "" || st.Config != d.Config {
			rt.Fatalf("state %+v", st)
		}
	})
}

func TestProcess_WithARecycledPIDIsAnother(t *testing.T) {
	self := Self()
	if self.Start == 0 || !self.IsAlive() {
		t.Fatalf("self: %+v", self)
	}
	if (Process{PID: self.PID, Start: self.Start + 1}).IsAlive() {
		t.Error("a process with another start time is taken for this one")
	}
}

func TestState_DropsLeasesAfterAReboot(t *testing.T) {
	d := openTestDir(t)
	update(t, d, func(tx *Tx) error {
		tx.AddLease(Lease{Kind: StartLease})
		tx.Ports = map[string]int{"db": 12345}
		tx.Boot = "an earlier boot"
		return nil
	})
	st := update(t, d, readOnly)
	if len(st.Leases) != 0 || st.Ports["db"] != 12345 {
		t.Errorf("after a reboot: leases %v, ports %v", st.Leases, st.Ports)
	}
}

// In a virtual machine that shares the home directory, entries of the host have no effect, and the host finds them again.
func TestState_KeepsTheEntriesOfAnotherBoot(t *testing.T) {
	d := openTestDir(t)
	lease := Lease{Kind: ExecLease, Process: Self()}.Here()
	id, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	update(t, d, func(tx *Tx) error {
		tx.AddLease(lease)
		tx.Supervisor = (&Supervisor{Process: Self(), Run: "host"}).Here()
		tx.Boot = "the host"
		return nil
	})
	update(t, d, func(tx *Tx) error {
		if len(tx.Leases) > 0 || tx.Supervisor != nil {
			t.Errorf("the entries of the host have effect: %+v", tx.State)
		}
		tx.AddLease(Lease{Kind: StartLease})
		tx.PruneLeases()
		tx.Supervisor = (&Supervisor{Process: Self(), Run: "machine"}).Here()
		return nil
	})

	// The host reads what the machine has written.
	data, err := os.ReadFile(filepath.Join(d.Path, stateName))
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.ReplaceAll(data, []byte(`"boot":"`+id+`","leases":[{"kind":"start"`), []byte(`"boot":"the machine","leases":[{"kind":"start"`))
	data = bytes.ReplaceAll(data, []byte("the host"), []byte(id))
	if err := os.WriteFile(filepath.Join(d.Path, stateName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	st := update(t, d, func(tx *Tx) error { tx.PruneLeases(); tx.Ports = map[string]int{"db": 1}; return nil })
	if len(st.Leases) != 1 || st.Leases[0] != lease || st.Supervisor == nil || st.Supervisor.Run != "host" {
		t.Errorf("the host finds %+v", st)
	}
	if len(st.OtherBoots) != 1 || st.OtherBoots[0].Boot != "the machine" || len(st.OtherBoots[0].Leases) != 1 || st.OtherBoots[0].Supervisor.Run != "machine" {
		t.Errorf("of the machine is left: %+v", st.OtherBoots)
	}
	for range 2 * maxOtherBoots {
		update(t, d, func(tx *Tx) error { tx.AddLease(lease); tx.Boot = rand.Text(); return nil })
	}
	if st := update(t, d, readOnly); len(st.OtherBoots) != maxOtherBoots {
		t.Errorf("%d other boots are kept, want %d", len(st.OtherBoots), maxOtherBoots)
	}
}

func TestLease_OfAnotherBootIsNotAlive(t *testing.T) {
	for _, lease := range []Lease{{Kind: StartLease}, {Kind: ExecLease, Process: Self()}} {
		lease.Boot = "another boot"
		if lease.IsAlive() {
			t.Errorf("%+v is alive", lease)
		}
		if lease = lease.Here(); !lease.IsAlive() {
			t.Errorf("%+v is not alive", lease)
		}
	}
}

func TestWaitExit_ReturnsWhenTheProcessIsKilled(t *testing.T) {
	m := startTestProcess(t, openTestDir(t).Config)
	p, ok := FindProcess(m.cmd.Process.Pid)
	if !ok {
		t.Fatal("not found")
	}
	done := make(chan error, 1)
	go func() { done <- WaitExit(t.Context(), p) }()
	if err := m.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p.IsAlive() { // not reaped yet: a zombie does not count
		t.Error("a zombie counts as alive")
	}
	m.end()
	if err := WaitExit(t.Context(), p); err != nil {
		t.Errorf("a process that is long gone: %v", err)
	}
}

func TestWaitExit_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- WaitExit(ctx, Self()) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUpdate_EndsWithTheDeadlineWhenLocked(t *testing.T) {
	d := openTestDir(t)
	update(t, d, func(*Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := d.Update(ctx, readOnly)
		locked, ok := errors.AsType[*LockedError](err)
		if !ok || locked.Path != d.path("lock") {
			t.Fatalf("got %v", err)
		}
		if runtime.GOOS == "linux" && (locked.PID != os.Getpid() || locked.Program == "" || !strings.Contains(err.Error(), ": held by pid ")) {
			t.Errorf("got %v, want this process named", err)
		}
		return nil
	})
}

func TestUpdate_WritesNothingAfterAnError(t *testing.T) {
	d := openTestDir(t)
	before := update(t, d, readOnly)
	boom := errors.New("boom")
	_, err := d.Update(t.Context(), func(tx *Tx) error {
		tx.Down = true
		tx.Bump()
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if after := update(t, d, readOnly); after.Down || after.Line != before.Line {
		t.Errorf("after: %+v", after)
	}
}

func TestUpdate_ChangesThePromptLineWithEveryBump(t *testing.T) {
	d := openTestDir(t)
	seen := map[string]bool{}
	for range 3 {
		update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
		line := d.PromptLine()
		if seen[line] || len(strings.Fields(line)) != 3 {
			t.Errorf("line %q", line)
		}
		if target, err := os.Readlink(filepath.Join(d.Path, shellhook.PromptLink)); err != nil || target != line {
			t.Errorf("the link has %q, %v; want %q", target, err, line)
		}
		seen[line] = true
	}
	before := d.PromptLine()
	update(t, d, func(tx *Tx) error { tx.AddLease(Lease{Kind: StartLease}); return nil })
	if d.PromptLine() != before {
		t.Error("a lease alone changed the line")
	}
	requireNoError(t, os.WriteFile(filepath.Join(d.Path, "state.json"), []byte("torn"), 0o600))
	update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
	if seen[d.PromptLine()] {
		t.Error("after a lost state the line repeated")
	}
}

func TestStamp_HasItsFilesTimeAndReportsCreationAndRemoval(t *testing.T) {
	d := openTestDir(t)
	root := t.TempDir()
	config := filepath.Join(root, ".localport.toml")
	checkStamp := func(want bool) {
		t.Helper()
		if got, err := d.Stamp(root); err != nil || got != want {
			t.Errorf("changed %v, %v; want %v", got, err, want)
		}
	}
	checkStamp(false)
	requireNoError(t, os.WriteFile(config, nil, 0o600))
	checkStamp(true)
	checkStamp(false)
	past := time.Now().Add(-time.Hour)
	requireNoError(t, os.Chtimes(config, past, past))
	checkStamp(true)
	info, err := os.Stat(filepath.Join(d.Path, "stamp.config"))
	if err != nil || !info.ModTime().Equal(past.Truncate(time.Nanosecond)) {
		t.Errorf("stamp's time %v, want %v (%v)", info.ModTime(), past, err)
	}
	os.Remove(config)
	checkStamp(true)
	checkStamp(false)
}

func TestOpen_MakesPrivateDirectories(t *testing.T) {
	d := openTestDir(t)
	update(t, d, func(tx *Tx) error { tx.Bump(); return nil })
	for path, want := range map[string]os.FileMode{
		d.Path: 0o700, d.LogDir(): 0o700, filepath.Join(d.Path, "state.json"): 0o600, filepath.Join(d.Path, "lock"): 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v (%v)", path, info.Mode().Perm(), want, err)
		}
	}
}

func TestRuntimeDir_IsOwnedByTheUserOrAnError(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", base)
	if len(base) < 50 {
		if err := os.Mkdir(filepath.Join(base, "localport"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := RuntimeDir()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v %v", dir, info.Mode(), err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "/"+strings.Repeat("long/", 30))
	if dir, err := RuntimeDir(); err != nil || len(dir) > 40 {
		t.Errorf("with a long XDG_RUNTIME_DIR: %q, %v", dir, err)
	}
	link := filepath.Join(base, "x")
	requireNoError(t, os.Symlink("/tmp", link))
	if err := privateDir(link); err == nil {
		t.Error("a symbolic link is taken for a directory of ours")
	}
}

// Another user may have made the directory in /tmp before.
func TestRuntimeDir_RefusesADirectoryOfAnotherUser(t *testing.T) {
	dir := "/etc" // root's
	if os.Getuid() == 0 {
		dir = t.TempDir()
		requireNoError(t, os.Chown(dir, 65534, 65534))
	}
	if err := privateDir(dir); err == nil || !strings.Contains(err.Error(), "is not a directory owned by uid") {
		t.Errorf("got %v", err)
	}
}

// Programs that cron or a service manager starts may have no HOME.
func TestHomeDir_IsThatOfThePasswordDatabaseWithoutHOME(t *testing.T) {
	t.Setenv("HOME", "/elsewhere")
	if home, err := HomeDir(); home != "/elsewhere" || err != nil {
		t.Errorf("with HOME: %q, %v", home, err)
	}
	t.Setenv("HOME", "")
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if home, err := HomeDir(); home != u.HomeDir || err != nil {
		t.Errorf("without HOME: %q, %v, want %q", home, err, u.HomeDir)
	}
	t.Setenv("XDG_STATE_HOME", "")
	if state, err := StateHome(); state != filepath.Join(u.HomeDir, ".local/state/localport") || err != nil {
		t.Errorf("the state is in %q, %v", state, err)
	}
}

// TestStateHome_IsNeverInTheHomeOfAnotherUser is about root with a user's environment, as under "sudo -E".
func TestStateHome_IsNeverInTheHomeOfAnotherUser(t *testing.T) {
	own, foreign := t.TempDir(), "/etc" // which is root's
	if os.Geteuid() == 0 {
		foreign = t.TempDir()
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
			t.Setenv(name, foreign)
		}
		t.Setenv("XDG_DATA_HOME", "")
		for _, directory := range []func() (string, error){StateHome, DataHome, ConfigHome, RuntimeDir} {
			if dir, err := directory(); err != nil || strings.HasPrefix(dir, foreign) {
				t.Errorf("root would use %s, %v", dir, err)
			}
		}
		if entries, err := os.ReadDir(foreign); err != nil || len(entries) > 0 {
			t.Errorf("root made %v, %v", entries, err)
		}
		t.Setenv("XDG_STATE_HOME", own)
		if dir, err := StateHome(); err != nil || dir != filepath.Join(own, "localport") {
			t.Errorf("root's own $XDG_STATE_HOME is not used, but %s, %v", dir, err)
		}
	}
	uid := uint32(os.Geteuid())
	if dir, ok := firstOwnedBy(uid, []string{filepath.Join(foreign, "a/b"), filepath.Join(own, "a/b")}); dir != filepath.Join(own, "a/b") || !ok {
		t.Errorf("it would use %q", dir)
	}
	if dir, ok := firstOwnedBy(uid, []string{foreign}); ok {
		t.Errorf("it would use %q", dir)
	}
}
