package lockstate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runUpdates is a process that changes the state and stands for election until its stdin is closed. It reports every
// change as "count ID N" and the time for which an election was valid as "held FROM TO" in nanoseconds.
func runUpdates(config string) int {
	d, err := Open(config)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // the directory may be deleted while it is made
		println(err.Error())
		return 1
	}
	stop := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(stop)
	}()
	for {
		select {
		case <-stop:
			return 0
		default:
		}
		if err := updateOnce(d); err != nil {
			println(err.Error())
			return 1
		}
	}
}

func updateOnce(d *Dir) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var election *Election
	st, err := d.Update(ctx, func(tx *Tx) (err error) {
		if tx.Ports == nil {
			tx.Ports = map[string]int{}
		}
		tx.Ports["count"]++
		tx.Bump()
		if election = nil; rand.N(4) == 0 {
			election, err = tx.Elect()
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Println("count", st.ID, st.Ports["count"])
	if election == nil {
		return nil
	}
	defer func() { _ = election.Resign() }()
	from, to := int64(0), int64(0)
	for range 20 {
		before := monotonic()
		isHeld, err := election.IsHeld()
		if err != nil {
			return err
		}
		if !isHeld {
			break
		}
		// The file was at its path at some time after before, and is never put back once it is gone.
		if from == 0 {
			from = monotonic()
		}
		to = before
	}
	if to > from {
		fmt.Println("held", from, to)
	}
	return nil
}

// monotonic is a clock that is the same in every process.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// runChaos has five processes change the state while the named files are deleted at random; "" is the directory. It
// returns what they reported: at least 300 changes and 10 elections.
func runChaos(t *testing.T, d *Dir, deleted []string) (lines []string) {
	t.Helper()
	reports := make(chan string, 1000)
	var processes sync.WaitGroup
	var stdins []*os.File
	for range 5 {
		stdin, in, err := os.Pipe()
		requireNoError(t, err)
		stdins = append(stdins, in)
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "LOCKSTATE_TEST_UPDATES="+d.Config)
		cmd.Stdin, cmd.Stderr = stdin, os.Stderr
		out, err := cmd.StdoutPipe()
		requireNoError(t, err)
		requireNoError(t, cmd.Start())
		stdin.Close()
		processes.Go(func() {
			for scanner := bufio.NewScanner(out); scanner.Scan(); {
				reports <- scanner.Text()
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	go func() {
		processes.Wait()
		close(reports)
	}()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	changes, elections := 0, 0
	for line := range reports {
		lines = append(lines, line)
		if strings.HasPrefix(line, "count") {
			changes++
		} else {
			elections++
		}
		if changes >= 300 && elections >= 10 {
			for _, in := range stdins {
				in.Close()
			}
			stdins = nil
		}
		if random.IntN(2) == 0 {
			_ = os.RemoveAll(d.path(deleted[random.IntN(len(deleted))]))
		}
	}
	return lines
}

// parseCounts are the reported values of each state's counter, sorted.
func parseCounts(t *testing.T, lines []string) map[string][]int {
	t.Helper()
	values := map[string][]int{}
	for _, line := range lines {
		if fields := strings.Fields(line); fields[0] == "count" {
			n, err := strconv.Atoi(fields[2])
			requireNoError(t, err)
			values[fields[1]] = append(values[fields[1]], n)
		}
	}
	for _, v := range values {
		slices.Sort(v)
	}
	return values
}

func checkElections(t *testing.T, lines []string) {
	t.Helper()
	type span struct{ from, to int64 }
	var spans []span
	for _, line := range lines {
		if fields := strings.Fields(line); fields[0] == "held" {
			from, _ := strconv.ParseInt(fields[1], 10, 64)
			to, _ := strconv.ParseInt(fields[2], 10, 64)
			spans = append(spans, span{from, to})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	for i := 1; i < len(spans); i++ {
		if spans[i].from < spans[i-1].to {
			t.Errorf("two valid elections at once: %v and %v", spans[i-1], spans[i])
		}
	}
}

func TestUpdate_LosesNoChangeWhileLocksAreDeleted(t *testing.T) {
	d := openTestDir(t)
	id := update(t, d, func(tx *Tx) error { tx.Bump(); return nil }).ID
	lines := runChaos(t, d, []string{"lock", "lock", "election"})
	values := parseCounts(t, lines)
	if len(values) != 1 {
		t.Errorf("%d states", len(values))
	}
	for i, n := range values[id] {
		if n != i+1 {
			t.Fatalf("change %d of %d was lost or made twice: the counter says %d", i+1, len(values[id]), n)
		}
	}
	st := update(t, d, readOnly)
	if st.Ports["count"] != len(values[id]) {
		t.Errorf("the counter says %d after %d changes", st.Ports["count"], len(values[id]))
	}
	if number, _ := d.lineNumber(); number != st.Line {
		t.Errorf("the line says %d, the state %d", number, st.Line)
	}
	checkElections(t, lines)
}

func TestUpdate_LosesNoChangeWhileTheStateFileStays(t *testing.T) {
	d := openTestDir(t)
	lines := runChaos(t, d, []string{"lock", "election", "state.json", "prompt", ""})
	for id, values := range parseCounts(t, lines) {
		if len(slices.Compact(slices.Clone(values))) != len(values) {
			t.Errorf("state %s: two changes made the same number: %v", id, values)
		}
	}
	checkElections(t, lines)
	entries, err := os.ReadDir(d.Path)
	if !errors.Is(err, os.ErrNotExist) { // it may have been the last to go
		requireNoError(t, err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s was left behind", entry.Name())
		}
	}
}
