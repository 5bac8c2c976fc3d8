package eventlog

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What the test binary plays, on the log that the variable names.
const (
	playPanic = "LOCALPORT_TEST_PANIC" // a supervisor that panics after its log was put aside
	playLimit = "LOCALPORT_TEST_LIMIT" // a writer whose disk is full in the middle of a line, and then is not
)

func TestMain(m *testing.M) {
	if path := os.Getenv(playPanic); path != "" {
		file := Open(path, nil, Limits{Size: 100, Files: 2})
		file.Carry()
		for i := range 20 {
			fmt.Fprintf(file, "a line of thirty bytes or so %d\n", i)
		}
		panic("the sky fell")
	}
	if path := os.Getenv(playLimit); path != "" {
		writeBeyondLimit(path)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func hide(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }

// read is what a file holds; empty if there is none.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// age makes a file one whose last line was written that long ago.
func age(t *testing.T, path string, ago time.Duration) {
	t.Helper()
	then := time.Now().Add(-ago)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestALogIsMaskedAndEachLineHasItsTimeLevelAndRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	file := Open(path, hide, Limits{})
	defer file.Close()
	fmt.Fprint(file.Run("run.1"), "password hunter2\nerror: lost connection to pod\r\n")
	lines := strings.Split(read(t, path), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], " INFO run.1 password ***") ||
		!strings.HasSuffix(lines[1], " ERROR run.1 error: lost connection to pod") {
		t.Errorf("the log holds %q", lines)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode: %v, %v", info.Mode(), err)
	}
}

func TestALargeLogIsPutAsideAndTheOldestGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	file := Open(path, nil, Limits{Size: 10, Files: 2})
	defer file.Close()
	for i := range 5 {
		fmt.Fprintf(file, "line %d...\n", i)
	}
	for n, want := range []string{"line 4...\n", "line 3...\n", "line 2...\n", ""} {
		if got := read(t, aside(path, n)); got != want {
			t.Errorf("%s holds %q, want %q", aside(path, n), got, want)
		}
	}
	file.SetLimits(Limits{Size: 1000, Files: 1})
	fmt.Fprintln(file, "more")
	if got := read(t, path); got != "line 4...\nmore\n" {
		t.Errorf("under the new limits the log holds %q", got)
	}
	file.SetLimits(Limits{Size: 5, Files: 1})
	fmt.Fprintln(file, "last")
	if exists(aside(path, 2)) {
		t.Error("with one file to be kept there are two")
	}
}

func TestOldFilesGoWhenTheLogIsOpenedAndWhenItIsPutAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db.log")
	write := func(n int, ago time.Duration) {
		if err := os.WriteFile(aside(path, n), []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		age(t, aside(path, n), ago)
	}
	write(0, 49*time.Hour)
	write(1, 50*time.Hour)
	file := Open(path, nil, Limits{Size: 10, Keep: 48 * time.Hour})
	defer file.Close()
	fmt.Fprintln(file, "new")
	if got := read(t, path); got != "new\n" || exists(aside(path, 1)) {
		t.Errorf("opened, the log holds %q", got)
	}
	write(1, 50*time.Hour)
	write(2, time.Hour)
	fmt.Fprintln(file, "and more")
	if got := read(t, aside(path, 1)); got != "new\n" || exists(aside(path, 2)) || !exists(aside(path, 3)) {
		t.Errorf("put aside, the log's first holds %q", got)
	}
}

func TestLogsOfServicesThatAreNoMoreGoWithAge(t *testing.T) {
	dir := t.TempDir()
	for name, ago := range map[string]time.Duration{
		"gone.log": 9 * 24 * time.Hour, "gone.log.1": 9 * 24 * time.Hour, "db.log": time.Hour,
		"events.jsonl": 9 * 24 * time.Hour, "notes.txt": 9 * 24 * time.Hour,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		age(t, filepath.Join(dir, name), ago)
	}
	if err := Tidy(dir, Limits{}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != "db.log" || entries[1].Name() != "notes.txt" {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestALogThatWasRemovedIsBegunAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	file := Open(path, nil, Limits{})
	defer file.Close()
	fmt.Fprintln(file, "one")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file, "two")
	if got := read(t, path); got != "two\n" {
		t.Errorf("the log holds %q", got)
	}
}

func TestADiskThatTakesNothingStopsNothingAndIsToldOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	file := Open(filepath.Join(dir, "db.log"), nil, Limits{})
	defer file.Close()
	for range 3 {
		if n, err := fmt.Fprintln(file.Run("run.1"), "hello"); n != 6 || err != nil {
			t.Errorf("writing to no directory: %d, %v", n, err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file.Run("run.1"), "back")
	lines := strings.Split(read(t, filepath.Join(dir, "db.log")), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "WARN - 3 lines were lost: no such file or directory") ||
		!strings.HasSuffix(lines[1], "back") {
		t.Errorf("the log holds %q", lines)
	}
}

func TestAPanicIsFoundInTheLogHoweverOftenThatWasPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervisor.log")
	for _, before := range []func() error{
		func() error { return nil },
		func() error { return os.Rename(path, aside(path, 1)) }, // as a keeper's supervisor inherits it
		func() error { return os.Remove(path) },
	} {
		log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		if err := before(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self(t))
		cmd.Env = append(os.Environ(), playPanic+"="+path)
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err == nil {
			t.Fatal("the program that was to panic did not")
		}
		if got := read(t, path); !strings.Contains(got, "panic: the sky fell") || !strings.Contains(got, "bytes or so 19") {
			t.Errorf("the log ends without the panic: %q", got)
		}
	}
}

func self(t *testing.T) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// writeBeyondLimit writes to a file that may have 100 bytes, and then more.
func writeBeyondLimit(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	file := Open(path, nil, Limits{})
	narrow := limit
	narrow.Cur = 100
	for _, l := range []syscall.Rlimit{narrow, limit} {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			panic(err)
		}
		for i := range 3 {
			fmt.Fprintf(file.Run("run.1"), "one of several lines, number %d\n", i)
		}
	}
}

func TestALineThatWasCutShortEndsAndIsCountedAsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	cmd := exec.Command(self(t))
	cmd.Env = append(os.Environ(), playLimit+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(read(t, path)), "\n")
	var whole []string
	for _, text := range lines {
		if line, ok := Parse(text); ok {
			whole = append(whole, line.Text)
		}
	}
	text := strings.Join(whole, "|")
	if !strings.Contains(text, "|2 lines were lost: file too large|one of several lines, number 0|") || len(lines) != 6 {
		t.Errorf("the log holds\n%s", strings.Join(lines, "\n"))
	}
}
