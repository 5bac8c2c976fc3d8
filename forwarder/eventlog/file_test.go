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

// Programs as which the test binary runs; the variable names the log file.
const (
	panicVariable     = "LOCALPORT_TEST_PANIC" // a supervisor that panics after its log was rotated
	sizeLimitVariable = "LOCALPORT_TEST_LIMIT" // a writer that reaches a size limit in the middle of a line, which is then lifted
)

func TestMain(m *testing.M) {
	if path := os.Getenv(panicVariable); path != "" {
		file := NewFile(path, nil, Limits{MaxSize: 100, MaxRotated: 2})
		file.RedirectStdio()
		for i := range 20 {
			fmt.Fprintf(file, "a line of thirty bytes or so %d\n", i)
		}
		panic("the sky fell")
	}
	if path := os.Getenv(sizeLimitVariable); path != "" {
		writeBeyondLimit(path)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func maskPassword(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }

// readFile returns the content of a file, empty if it does not exist.
func readFile(t *testing.T, path string) string {
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

// setAge sets the time of a file's last line.
func setAge(t *testing.T, path string, ago time.Duration) {
	t.Helper()
	then := time.Now().Add(-ago)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestRunWriter_MasksAndStampsEachLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	file := NewFile(path, maskPassword, Limits{})
	defer file.Close()
	fmt.Fprint(file.RunWriter("run.1"), "password hunter2\nerror: lost connection to pod\r\n")
	lines := strings.Split(readFile(t, path), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], " INFO run.1 password ***") ||
		!strings.HasSuffix(lines[1], " ERROR run.1 error: lost connection to pod") {
		t.Errorf("the log holds %q", lines)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode: %v, %v", info.Mode(), err)
	}
}

func TestFile_RotatesAtMaxSizeAndRemovesTheOldest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	file := NewFile(path, nil, Limits{MaxSize: 10, MaxRotated: 2})
	defer file.Close()
	for i := range 5 {
		fmt.Fprintf(file, "line %d...\n", i)
	}
	for n, want := range []string{"line 4...\n", "line 3...\n", "line 2...\n", ""} {
		if got := readFile(t, rotatedName(path, n)); got != want {
			t.Errorf("%s holds %q, want %q", rotatedName(path, n), got, want)
		}
	}
	file.SetLimits(Limits{MaxSize: 1000, MaxRotated: 1})
	fmt.Fprintln(file, "more")
	if got := readFile(t, path); got != "line 4...\nmore\n" {
		t.Errorf("under the new limits the log holds %q", got)
	}
	file.SetLimits(Limits{MaxSize: 5, MaxRotated: 1})
	fmt.Fprintln(file, "last")
	if exists(rotatedName(path, 2)) {
		t.Error("with one file to be kept there are two")
	}
}

func TestFile_RemovesExpiredFilesOnOpenAndRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db.log")
	write := func(n int, ago time.Duration) {
		if err := os.WriteFile(rotatedName(path, n), []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		setAge(t, rotatedName(path, n), ago)
	}
	write(0, 49*time.Hour)
	write(1, 50*time.Hour)
	file := NewFile(path, nil, Limits{MaxSize: 10, MaxAge: 48 * time.Hour})
	defer file.Close()
	fmt.Fprintln(file, "new")
	if got := readFile(t, path); got != "new\n" || exists(rotatedName(path, 1)) {
		t.Errorf("after the first line, the log holds %q", got)
	}
	write(1, 50*time.Hour)
	write(2, time.Hour)
	fmt.Fprintln(file, "and more")
	if got := readFile(t, rotatedName(path, 1)); got != "new\n" || exists(rotatedName(path, 2)) || !exists(rotatedName(path, 3)) {
		t.Errorf("after the rotation, the first rotated file holds %q", got)
	}
}

func TestRemoveExpired_RemovesLogsOfRemovedServices(t *testing.T) {
	dir := t.TempDir()
	for name, ago := range map[string]time.Duration{
		"gone.log": 9 * 24 * time.Hour, "gone.log.1": 9 * 24 * time.Hour, "db.log": time.Hour,
		"events.jsonl": 9 * 24 * time.Hour, "notes.txt": 9 * 24 * time.Hour,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		setAge(t, filepath.Join(dir, name), ago)
	}
	if err := RemoveExpired(dir, Limits{}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != "db.log" || entries[1].Name() != "notes.txt" {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestFile_IsRecreatedAfterRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	file := NewFile(path, nil, Limits{})
	defer file.Close()
	fmt.Fprintln(file, "one")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file, "two")
	if got := readFile(t, path); got != "two\n" {
		t.Errorf("the log holds %q", got)
	}
}

func TestFile_WriteNeverFailsAndReportsLostLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	file := NewFile(filepath.Join(dir, "db.log"), nil, Limits{})
	defer file.Close()
	for range 3 {
		if n, err := fmt.Fprintln(file.RunWriter("run.1"), "hello"); n != 6 || err != nil {
			t.Errorf("writing to no directory: %d, %v", n, err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file.RunWriter("run.1"), "back")
	lines := strings.Split(readFile(t, filepath.Join(dir, "db.log")), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "WARN - 3 lines lost: no such file or directory") ||
		!strings.HasSuffix(lines[1], "back") {
		t.Errorf("the log holds %q", lines)
	}
}

func TestRedirectStdio_PanicIsInTheLogAfterRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervisor.log")
	for _, before := range []func() error{
		func() error { return nil },
		func() error { return os.Rename(path, rotatedName(path, 1)) }, // as a supervisor inherits it from a keeper
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
		cmd := exec.Command(testBinary(t))
		cmd.Env = append(os.Environ(), panicVariable+"="+path)
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err == nil {
			t.Fatal("the program that was to panic did not")
		}
		if got := readFile(t, path); !strings.Contains(got, "panic: the sky fell") || !strings.Contains(got, "bytes or so 19") {
			t.Errorf("the log ends without the panic: %q", got)
		}
	}
}

func testBinary(t *testing.T) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// writeBeyondLimit writes to a file while its size is limited to 100 bytes, and then without that limit.
func writeBeyondLimit(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	file := NewFile(path, nil, Limits{})
	narrow := limit
	narrow.Cur = 100
	for _, l := range []syscall.Rlimit{narrow, limit} {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			panic(err)
		}
		for i := range 3 {
			fmt.Fprintf(file.RunWriter("run.1"), "one of several lines, number %d\n", i)
		}
	}
}

func TestFile_PartialLineIsTerminatedAndCountedAsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.log")
	cmd := exec.Command(testBinary(t))
	cmd.Env = append(os.Environ(), sizeLimitVariable+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(readFile(t, path)), "\n")
	var whole []string
	for _, text := range lines {
		if line, ok := Parse(text); ok {
			whole = append(whole, line.Text)
		}
	}
	text := strings.Join(whole, "|")
	if !strings.Contains(text, "|2 lines lost: file too large|one of several lines, number 0|") || len(lines) != 6 {
		t.Errorf("the log holds\n%s", strings.Join(lines, "\n"))
	}
}
