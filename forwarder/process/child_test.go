package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/lockstate"
)

// role makes the test binary play a program that the tests start.
const role = "LOCALPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "supervisor":
		playSupervisor()
	case "descriptors":
		playDescriptors()
	default:
		goleak.VerifyTestMain(m)
	}
}

// printed starts a shell script and collects what it prints.
type printed struct {
	*Child
	lines chan string
}

func sh(t *testing.T, script string, args ...string) *printed {
	t.Helper()
	return start(t, Command{Argv: append([]string{"sh", "-c", script, "sh"}, args...), Env: os.Environ()})
}

func start(t *testing.T, c Command) *printed {
	t.Helper()
	lines := make(chan string, 10000)
	c.Line = func(_ Stream, line string) { lines <- line }
	child, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Stop(0) })
	return &printed{child, lines}
}

func (p *printed) line(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(10 * time.Second):
		t.Fatal("the child printed nothing")
		return ""
	}
}

func (p *printed) pid(t *testing.T) lockstate.Process {
	t.Helper()
	return process(t, p.line(t))
}

func process(t *testing.T, pid string) lockstate.Process {
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

func ended(t *testing.T, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(10 * time.Second):
		t.Fatal("the child did not end")
	}
}

func gone(t *testing.T, p lockstate.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := lockstate.WaitExit(ctx, p); err != nil {
		t.Fatalf("process %d still runs", p.PID)
	}
}

func TestStatusAndLastWordsAreKept(t *testing.T) {
	c := sh(t, `exec >&2; for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; echo; echo the end; exit 3`)
	ended(t, c.Done())
	if got := c.Status(); got != "exit status 3" {
		t.Errorf("status %q", got)
	}
	words := c.LastWords()
	if len(words) != lastWords || !slices.Contains(words, "the end") || !slices.Contains(words, "line 9") {
		t.Errorf("last words %q", words)
	}
}

func TestStreamsAreToldApart(t *testing.T) {
	got := map[Stream]string{}
	c, err := Start(Command{
		Argv: []string{"sh", "-c", "echo out; echo err >&2; printf 'unended\r' >&2"}, Env: os.Environ(),
		Line: func(from Stream, line string) { got[from] += line + "," },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended(t, c.Done())
	if got[Stdout] != "out," || got[Stderr] != "err,unended\r," {
		t.Errorf("got %v", got)
	}
}

func TestStopIsPoliteFirst(t *testing.T) {
	c := sh(t, `trap 'echo bye; exit 7' TERM; sleep 1000 & echo up; wait`)
	c.line(t)
	c.Stop(5 * time.Second)
	if got := c.line(t); got != "bye" {
		t.Errorf("said %q", got)
	}
	if got := c.Status(); got != "exit status 7" {
		t.Errorf("status %q", got)
	}
}

func TestStubbornGroupIsKilledAfterGrace(t *testing.T) {
	c := sh(t, `trap '' TERM; sh -c 'trap "" TERM; echo $$; while :; do sleep 1; done' & wait; wait`)
	grandchild := c.pid(t)
	began := time.Now()
	c.Stop(100 * time.Millisecond)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if got := c.Status(); got != "signal: killed" {
		t.Errorf("status %q", got)
	}
	gone(t, grandchild)
}

func TestNothingOfTheGroupOutlivesItsLeader(t *testing.T) {
	dir := fifo(t)
	c := sh(t, `sleep 1000 & echo $!; read x <"$1"`, filepath.Join(dir, "fifo"))
	grandchild := c.pid(t)
	if err := os.WriteFile(filepath.Join(dir, "fifo"), []byte("end\n"), 0); err != nil {
		t.Fatal(err)
	}
	ended(t, c.Done())
	gone(t, grandchild)
}

func TestGrandchildOutsideTheGroupHoldsUpNothing(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid is missing")
	}
	run := fmt.Sprintf("test-%d-setsid", os.Getpid())
	t.Cleanup(func() { _, _ = Sweep(run) })
	c := start(t, Command{
		Argv: []string{"sh", "-c", `setsid sh -c 'echo $$; exec sleep 1000' & read x <fifo`}, Dir: fifo(t),
		Env: append(os.Environ(), forwarder.RunVariable+"="+run),
	})
	escaped := c.pid(t)
	c.Stop(Grace) // returns although the escaped one holds the pipes
	if !escaped.Alive() {
		t.Fatal("it did not escape, so nothing was tried")
	}
	if killed, err := Sweep(run); err != nil || killed != 1 {
		t.Errorf("sweep: %d, %v", killed, err)
	}
	gone(t, escaped)
}

// fifo is a folder with a fifo that nobody writes to: reading it waits without a child process.
func fifo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mkfifo", filepath.Join(dir, "fifo")).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v: %s", err, out)
	}
	return dir
}

func TestHugeOutputIsReadAndLongLinesAreCut(t *testing.T) {
	c := sh(t, `head -c 3000000 /dev/zero | tr '\0' x; echo; i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done`)
	ended(t, c.Done())
	if got := len(c.line(t)); got != MaxLine {
		t.Errorf("the long line has %d bytes", got)
	}
	for i := range 2000 {
		if got := c.line(t); got != strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, got)
		}
	}
}

func TestStdinIsEmptyAndNoOtherDescriptorIsInherited(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	// The one in between inherits descriptor 3 as a supervisor does its readiness pipe.
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), role+"=descriptors")
	cmd.ExtraFiles = []*os.File{write}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the child has descriptors %q", got)
	}
}

// playDescriptors prints the descriptors that a child of this process has.
func playDescriptors() {
	const list = `cat; for fd in /dev/fd/*; do [ -e "$fd" ] && echo "${fd##*/}"; done`
	c, err := Start(Command{
		Argv: []string{"sh", "-c", list}, Env: os.Environ(),
		Line: func(_ Stream, line string) { fmt.Println(line) },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	<-c.Done()
}

func TestManyChildrenAtOnce(t *testing.T) {
	var all []*printed
	for range 20 {
		all = append(all, sh(t, `echo $$; exec sleep 1000`))
	}
	for _, c := range all {
		if p := c.pid(t); p.PID != c.Pid() {
			t.Errorf("pid %d, want %d", p.PID, c.Pid())
		}
	}
	for _, c := range all {
		c.Stop(0)
	}
}

func TestKilledSupervisorTakesItsChildAlongAndSweepFindsTheRest(t *testing.T) {
	if !pdeathsig {
		t.Skip("Pdeathsig is missing on this system")
	}
	run := fmt.Sprintf("test-%d-orphans", os.Getpid())
	t.Cleanup(func() { _, _ = Sweep(run) })
	supervisor := exec.CommandContext(t.Context(), os.Args[0])
	supervisor.Env = append(os.Environ(), role+"=supervisor", forwarder.RunVariable+"="+run)
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
		pids = append(pids, process(t, lines.Text()))
	}
	_ = supervisor.Process.Kill()
	_ = supervisor.Wait()

	leader, grandchild := pids[0], pids[1]
	gone(t, leader)
	if !grandchild.Alive() {
		t.Fatal("the grandchild died by itself, so the sweep was not tried")
	}
	if killed, err := Sweep(run + "0"); err != nil || killed != 0 {
		t.Errorf("the sweep of another run: %d, %v", killed, err)
	}
	if killed, err := Sweep(run); err != nil || killed != 1 {
		t.Errorf("sweep: %d, %v", killed, err)
	}
	gone(t, grandchild)
	if killed, err := Sweep(run); err != nil || killed != 0 {
		t.Errorf("second sweep: %d, %v", killed, err)
	}
}

// playSupervisor starts a child that has a child, prints their pids and waits to be killed.
func playSupervisor() {
	_, err := Start(Command{
		Argv: []string{"sh", "-c", `echo $$; sleep 1000 >/dev/null 2>&1 & echo $!; wait`}, Env: os.Environ(),
		Line: func(_ Stream, line string) { fmt.Println(line) },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}

func TestSweepOfNoRunKillsNothing(t *testing.T) {
	c := start(t, Command{
		Argv: []string{"sh", "-c", `echo $$; exec sleep 1000`}, Env: append(os.Environ(), forwarder.RunVariable+"="),
	})
	c.pid(t)
	if killed, err := Sweep(""); err != nil || killed != 0 {
		t.Errorf("killed %d, %v", killed, err)
	}
	select {
	case <-c.Done():
		t.Error("the child is gone")
	default:
	}
}
