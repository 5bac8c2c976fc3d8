package process

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
)

// roleVariable names the program as which the test binary runs.
const roleVariable = "LOCALPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "supervisor":
		runSupervisor()
	case "descriptors":
		printChildDescriptors()
	case "allocate":
		allocate()
	default:
		goleak.VerifyTestMain(m)
	}
}

// allocate allocates memory until it is killed, once stdin has ended.
func allocate() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	var held [][]byte
	for len(held) < 1<<20 {
		held = append(held, bytes.Repeat([]byte{1}, 1<<20))
	}
}

// testChild is a running child and the lines that it prints.
type testChild struct {
	*Child
	lines chan string
}

func startShell(t *testing.T, script string, args ...string) *testChild {
	t.Helper()
	return startChild(t, Command{Argv: append([]string{"sh", "-c", script, "sh"}, args...), Env: os.Environ()})
}

func startChild(t *testing.T, c Command) *testChild {
	t.Helper()
	lines := make(chan string, 10000)
	c.OnLine = func(_ Stream, line string) { lines <- line }
	child, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Stop(0) })
	return &testChild{child, lines}
}

func (c *testChild) nextLine(t *testing.T) string {
	t.Helper()
	select {
	case line := <-c.lines:
		return line
	case <-time.After(10 * time.Second):
		t.Fatal("the child printed nothing")
		return ""
	}
}

func (c *testChild) nextProcess(t *testing.T) lockstate.Process {
	t.Helper()
	return findProcess(t, c.nextLine(t))
}

func findProcess(t *testing.T, pid string) lockstate.Process {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	found, ok := lockstate.FindProcess(n)
	if !ok {
		t.Fatalf("process %d does not run", n)
	}
	return found
}

func waitClosed(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("the child did not end")
	}
}

func waitExit(t *testing.T, p lockstate.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := lockstate.WaitExit(ctx, p); err != nil {
		t.Fatalf("process %d still runs", p.PID)
	}
}

func TestChild_KeepsExitStatusAndLastLines(t *testing.T) {
	c := startShell(t, `exec >&2; for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; echo; echo the end; exit 3`)
	waitClosed(t, c.Done())
	if got := c.ExitStatus(); got != "exit status 3" {
		t.Errorf("status %q", got)
	}
	last := c.LastLines()
	if len(last) != maxLastLines || !slices.Contains(last, "the end") || !slices.Contains(last, "line 9") {
		t.Errorf("last lines %q", last)
	}
}

func TestChild_TellsStreamsApart(t *testing.T) {
	got := map[Stream]string{}
	c, err := Start(Command{
		Argv: []string{"sh", "-c", "echo out; echo err >&2; printf 'unended\r' >&2"}, Env: os.Environ(),
		OnLine: func(from Stream, line string) { got[from] += line + "," },
	})
	if err != nil {
		t.Fatal(err)
	}
	waitClosed(t, c.Done())
	if got[Stdout] != "out," || got[Stderr] != "err,unended\r," {
		t.Errorf("got %v", got)
	}
}

func TestChild_StopSendsSIGTERMFirst(t *testing.T) {
	c := startShell(t, `trap 'echo bye; exit 7' TERM; sleep 1000 & echo up; wait`)
	c.nextLine(t)
	c.Stop(5 * time.Second)
	if got := c.nextLine(t); got != "bye" {
		t.Errorf("printed %q", got)
	}
	if got := c.ExitStatus(); got != "exit status 7" {
		t.Errorf("status %q", got)
	}
}

func TestChild_StopKillsTheGroupAfterTheGracePeriod(t *testing.T) {
	c := startShell(t, `trap '' TERM; sh -c 'trap "" TERM; echo $$; while :; do sleep 1; done' & wait; wait`)
	grandchild := c.nextProcess(t)
	start := time.Now()
	c.Stop(100 * time.Millisecond)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if got := c.ExitStatus(); got != "signal: killed" {
		t.Errorf("status %q", got)
	}
	waitExit(t, grandchild)
}

func TestChild_KillsItsGroupWhenTheLeaderExits(t *testing.T) {
	dir := makeFifo(t)
	c := startShell(t, `sleep 1000 & echo $!; read x <"$1"`, filepath.Join(dir, "fifo"))
	grandchild := c.nextProcess(t)
	if err := os.WriteFile(filepath.Join(dir, "fifo"), []byte("end\n"), 0); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, c.Done())
	waitExit(t, grandchild)
}

func TestChild_StopDoesNotWaitForAGrandchildInAnotherGroup(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid is missing")
	}
	runID := fmt.Sprintf("test-%d-setsid", os.Getpid())
	t.Cleanup(func() { _, _ = KillOrphans(runID) })
	c := startChild(t, Command{
		Argv: []string{"sh", "-c", `setsid sh -c 'echo $$; exec sleep 1000' & read x <fifo`}, Dir: makeFifo(t),
		Env: append(os.Environ(), forwarder.RunVariable+"="+runID),
	})
	escaped := c.nextProcess(t)
	c.Stop(DefaultGracePeriod) // returns although the escaped process holds the pipes
	if !escaped.IsAlive() {
		t.Fatal("the grandchild ended with its group, so nothing was tested")
	}
	if killed, err := KillOrphans(runID); err != nil || killed != 1 {
		t.Errorf("kill orphans: %d, %v", killed, err)
	}
	waitExit(t, escaped)
}

// makeFifo creates a directory with a fifo that nobody writes to: a shell can wait on it without a child process.
func makeFifo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mkfifo", filepath.Join(dir, "fifo")).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v: %s", err, out)
	}
	return dir
}

func TestChild_ReadsHugeOutputAndTruncatesLongLines(t *testing.T) {
	c := startShell(t, `head -c 3000000 /dev/zero | tr '\0' x; echo; i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done`)
	waitClosed(t, c.Done())
	if got := len(c.nextLine(t)); got != maxLineBytes {
		t.Errorf("the long line has %d bytes", got)
	}
	for i := range 2000 {
		if got := c.nextLine(t); got != strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, got)
		}
	}
}

func TestChild_DeliversAllLinesThatWereReadAtOnce(t *testing.T) {
	var got []byte
	c, err := Start(Command{
		Argv: []string{"sh", "-c", `seq 1 200000; head -c 70000 /dev/zero | tr '\0' x; echo; echo; printf 'short\r\n'; printf end`}, Env: os.Environ(),
		OnLines: func(_ Stream, lines []byte) { got = append(got, lines...) },
		OnLine:  func(Stream, string) { t.Error("a line came alone") },
	})
	if err != nil {
		t.Fatal(err)
	}
	waitClosed(t, c.Done())
	var want []byte
	for i := range 200_000 {
		want = fmt.Appendln(want, i+1)
	}
	want = append(want, strings.Repeat("x", maxLineBytes)+"\n\nshort\r\nend"...)
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes are delivered, want %d; the last are %q", len(got), len(want), got[max(0, len(got)-100):])
	}
	last := c.LastLines()
	if len(last) != maxLastLines || last[maxLastLines-1] != "end" || last[maxLastLines-2] != "short" || len(last[maxLastLines-3]) != maxLineBytes || last[0] != "199996" {
		t.Errorf("the last lines are %.200q", last)
	}
}

func TestTruncateLines_CutsOnlyWhatIsTooLong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(maxLineBytes-2, maxLineBytes+2), rapid.IntRange(0, 3*maxLineBytes)), 0, 30).Draw(t, "lengths")
		var lines, want []byte
		for i, length := range lengths {
			line := bytes.Repeat([]byte{byte('a' + i%26)}, length)
			lines = append(append(lines, line...), '\n')
			want = append(append(want, line[:min(length, maxLineBytes)]...), '\n')
		}
		if got := truncateLines(lines); !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
	})
}

func TestChild_InheritsNoDescriptors(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	// The process in between inherits descriptor 3, as a supervisor inherits its readiness pipe.
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=descriptors")
	cmd.ExtraFiles = []*os.File{write}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the child has descriptors %q", got)
	}
}

// printChildDescriptors prints the descriptors that a child of this process has.
func printChildDescriptors() {
	const list = `cat; for fd in /dev/fd/*; do [ -e "$fd" ] && echo "${fd##*/}"; done`
	c, err := Start(Command{
		Argv: []string{"sh", "-c", list}, Env: os.Environ(),
		OnLine: func(_ Stream, line string) { fmt.Println(line) },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	<-c.Done()
}

func TestStart_ManyChildrenConcurrently(t *testing.T) {
	var all []*testChild
	for range 20 {
		all = append(all, startShell(t, `echo $$; exec sleep 1000`))
	}
	for _, c := range all {
		if p := c.nextProcess(t); p.PID != c.Pid() {
			t.Errorf("pid %d, want %d", p.PID, c.Pid())
		}
	}
	for _, c := range all {
		c.Stop(0)
	}
}

func TestKillOrphans_KillsWhatAKilledSupervisorLeftBehind(t *testing.T) {
	if !hasPdeathsig {
		t.Skip("Pdeathsig is missing on this system")
	}
	runID := fmt.Sprintf("test-%d-orphans", os.Getpid())
	t.Cleanup(func() { _, _ = KillOrphans(runID) })
	supervisor := exec.CommandContext(t.Context(), os.Args[0])
	supervisor.Env = append(os.Environ(), roleVariable+"=supervisor", forwarder.RunVariable+"="+runID)
	out, err := supervisor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var pids []lockstate.Process
	for len(pids) < 2 && lines.Scan() {
		pids = append(pids, findProcess(t, lines.Text()))
	}
	_ = supervisor.Process.Kill()
	_ = supervisor.Wait()

	leader, grandchild := pids[0], pids[1]
	waitExit(t, leader)
	if !grandchild.IsAlive() {
		t.Fatal("the grandchild ended by itself, so KillOrphans was not tested")
	}
	if killed, err := KillOrphans(runID + "0"); err != nil || killed != 0 {
		t.Errorf("kill orphans of another run: %d, %v", killed, err)
	}
	if killed, err := KillOrphans(runID); err != nil || killed != 1 {
		t.Errorf("kill orphans: %d, %v", killed, err)
	}
	waitExit(t, grandchild)
	if killed, err := KillOrphans(runID); err != nil || killed != 0 {
		t.Errorf("kill orphans again: %d, %v", killed, err)
	}
}

// runSupervisor starts a child that starts another, prints both pids and waits to be killed.
func runSupervisor() {
	_, err := Start(Command{
		Argv: []string{"sh", "-c", `echo $$; sleep 1000 >/dev/null 2>&1 & echo $!; wait`}, Env: os.Environ(),
		OnLine: func(_ Stream, line string) { fmt.Println(line) },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}

func TestKillOrphans_EmptyRunIDKillsNothing(t *testing.T) {
	c := startChild(t, Command{
		Argv: []string{"sh", "-c", `echo $$; exec sleep 1000`}, Env: append(os.Environ(), forwarder.RunVariable+"="),
	})
	c.nextProcess(t)
	if killed, err := KillOrphans(""); err != nil || killed != 0 {
		t.Errorf("killed %d, %v", killed, err)
	}
	select {
	case <-c.Done():
		t.Error("the child is gone")
	default:
	}
}
