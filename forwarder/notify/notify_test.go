package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/lockstate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var failed = Notice{Event: "failed", Service: "db", Project: "shop", State: "needs_attention", Reason: `say "{project}" & <b>$HOME`}

// program writes an executable script, and returns its directory and path.
func program(t *testing.T, name, script string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestAProgramGetsTheEventInItsArgumentsAndEnvironment(t *testing.T) {
	dir, path := program(t, "tell", `printf '%s|' "$@" $LOCALPORT_EVENT $LOCALPORT_SERVICE $LOCALPORT_PROJECT $LOCALPORT_STATE "$LOCALPORT_REASON" >said`)
	s := Settings{Command: []string{path, "{service} {event} in {project}", "{reason}", "{state}", ""}, Dir: dir, Env: os.Environ()}
	if err := tell(t.Context(), s, failed); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(filepath.Join(dir, "said"))
	want := "db failed in shop|" + failed.Reason + "|needs_attention||failed|db|shop|needs_attention|" + failed.Reason + "|"
	if err != nil || string(said) != want {
		t.Errorf("it was told %q, %v\nwant %q", said, err, want)
	}
}

func TestTheDesktopIsToldWhereThereIsOne(t *testing.T) {
	dir, _ := program(t, "notify-send", `printf '%s|' "$@" >"$SAID"`)
	said := filepath.Join(dir, "said")
	s := Settings{Desktop: true, Dir: dir, Env: []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "SAID=" + said, "DISPLAY="}}
	if argv := s.desktop("linux", failed); argv != nil {
		t.Errorf("without a desktop: %q", argv)
	}
	s.Env = append(s.Env, "WAYLAND_DISPLAY=wayland-0")
	argv := s.desktop("linux", failed)
	if err := run(t.Context(), process.Command{Argv: argv, Dir: dir, Env: s.Env}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(said)
	want := `--app-name=localport|--|shop: db failed|say "{project}" &amp; &lt;b&gt;$HOME|`
	if err != nil || string(text) != want {
		t.Errorf("the desktop was told %q, %v\nwant %q", text, err, want)
	}
}

func TestOnMacOSNoTextBecomesPartOfTheScript(t *testing.T) {
	evil := failed
	evil.Reason = `" & (do shell script "rm") & "`
	argv := Settings{Desktop: true}.desktop("darwin", evil)
	at := slices.Index(argv, "--")
	if argv[0] != "osascript" || at < 0 || !slices.Equal(argv[at+1:], []string{"shop: db failed", evil.Reason}) {
		t.Errorf("osascript would get %q", argv)
	}
	if script := strings.Join(argv[:at], "\n"); strings.Contains(script, "rm") || strings.Contains(script, "shop") {
		t.Errorf("the script holds the text: %s", script)
	}
}

func TestAProgramThatFailsOrIsMissingIsNamedWithItsLastWords(t *testing.T) {
	_, path := program(t, "tell", "echo no bus >&2; exit 3")
	err := tell(t.Context(), Settings{Command: []string{path}}, failed)
	if err == nil || !strings.HasSuffix(err.Error(), "tell: exit status 3: no bus") {
		t.Errorf("it failed with %v", err)
	}
	err = tell(t.Context(), Settings{Command: []string{"no-such-program"}, Env: []string{"PATH=/nowhere"}}, failed)
	if _, missing := errors.AsType[*process.NotFoundError](err); !missing {
		t.Errorf("a program that is not there: %v", err)
	}
}

// stuck is a program that never ends, and has started another; ids returns the process ids of both once they run.
func stuck(t *testing.T) (path string, ids func() []lockstate.Process) {
	dir, path := program(t, "tell", `trap "" TERM; sleep 1000 & echo $$ $! >"${0%/*}/fifo"; wait; wait`)
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() []lockstate.Process {
		data, err := os.ReadFile(fifo)
		if err != nil {
			t.Fatal(err)
		}
		var found []lockstate.Process
		for word := range strings.FieldsSeq(string(data)) {
			pid, _ := strconv.Atoi(word)
			process, alive := lockstate.FindProcess(pid)
			if !alive {
				t.Fatalf("process %d does not run", pid)
			}
			found = append(found, process)
		}
		return found
	}
}

func gone(t *testing.T, processes []lockstate.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, process := range processes {
		if err := lockstate.WaitExit(ctx, process); err != nil {
			t.Errorf("process %d was left behind: %v", process.PID, err)
		}
	}
}

// expiring is a context whose time is over when done is closed.
type expiring struct {
	context.Context
	done chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.done }

func (e expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestAProgramThatHangsIsEndedWithItsWholeGroup(t *testing.T) {
	path, ids := stuck(t)
	ctx := expiring{t.Context(), make(chan struct{})}
	result := make(chan error, 1)
	go func() { result <- run(ctx, process.Command{Argv: []string{path}, Env: os.Environ()}) }()
	processes := ids()
	close(ctx.done)
	if err := <-result; err == nil || !strings.Contains(err.Error(), "did not end within 10s") {
		t.Errorf("it ended with %v", err)
	}
	gone(t, processes)
}

func TestWhatIsBeingToldEndsWithTheNotifierAndNobodyWaitsForIt(t *testing.T) {
	path, ids := stuck(t)
	n := New(Settings{Command: []string{path}, Env: os.Environ(), On: []string{"failed"}}, quiet())
	n.Tell(failed)
	processes := ids()
	for i := range 1000 { // none of these waits for the one that hangs
		n.Tell(Notice{Event: "failed", Service: fmt.Sprint(i)})
	}
	n.Close()
	gone(t, processes)
}

func TestWhatGoesWrongIsLogged(t *testing.T) {
	reader, writer := io.Pipe()
	n := New(Settings{Command: []string{"/no/such/program"}, On: []string{"failed"}}, slog.New(slog.NewTextHandler(writer, nil)))
	n.Tell(failed)
	line := make([]byte, 4096)
	size, err := reader.Read(line)
	if text := string(line[:size]); err != nil || !strings.Contains(text, "/no/such/program") || !strings.Contains(text, "service=db") {
		t.Errorf("logged: %q, %v", text, err)
	}
	reader.Close()
	n.Close()
}

// telling is a notifier in a bubble, which notes what it would tell and when.
func telling(t *testing.T, settings Settings) (*Notifier, func() string) {
	began := time.Now()
	var said []string
	n := begin(settings, quiet(), func(_ context.Context, _ Settings, notice Notice) error {
		said = append(said, fmt.Sprintf("%v %s %s", time.Since(began), notice.Service, notice.Event))
		return nil
	})
	t.Cleanup(n.Close)
	return n, func() string {
		synctest.Wait()
		defer func() { said = nil }()
		return strings.Join(said, ", ")
	}
}

func TestAFlappingServiceIsSpokenOfOnceInAWhileAndTheLastIsNeverLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, said := telling(t, Settings{Desktop: true, On: []string{"failed", "recovered"}})
		down, up := Notice{Event: "failed", Service: "db"}, Notice{Event: "recovered", Service: "db"}
		n.Tell(down)
		if got := said(); got != "0s db failed" {
			t.Errorf("at first: %s", got)
		}
		for range 10 {
			n.Tell(up)
			n.Tell(down)
		}
		n.Tell(Notice{Event: "failed", Service: "api"})
		n.Tell(up)
		time.Sleep(Pace)
		if got := said(); got != "0s api failed, 5s db recovered" {
			t.Errorf("flapping: %s", got)
		}
		n.Tell(down)
		n.Tell(up)
		time.Sleep(Pace)
		if got := said(); got != "" {
			t.Errorf("back to what the user knows: %s", got)
		}
		n.Tell(up)
		if got := said(); got != "10s db recovered" {
			t.Errorf("the same again, later: %s", got)
		}
	})
}

func TestOnlyWhatWasAskedForIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, said := telling(t, Settings{Desktop: true, On: []string{"failed"}})
		n.Tell(Notice{Event: "recovered", Service: "db"})
		n.Set(Settings{On: []string{"recovered"}})
		n.Tell(Notice{Event: "recovered", Service: "db"}) // by no way
		n.Set(Settings{Command: []string{"x"}, On: []string{"recovered"}})
		n.Tell(Notice{Event: "recovered", Service: "api"})
		if got := said(); got != "0s api recovered" {
			t.Errorf("told: %s", got)
		}
	})
}
