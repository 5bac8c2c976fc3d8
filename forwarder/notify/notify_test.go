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
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/manualdeadline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var failedNotification = Notification{Event: "failed", Service: "db", Project: "shop", State: "needs_attention", Reason: `say "{project}" & <b>$HOME`}

// writeProgram writes an executable script, and returns its directory and path.
func writeProgram(t *testing.T, name, script string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, name)
	if err := executable.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestSend_ProgramGetsTheEventInArgumentsAndEnvironment(t *testing.T) {
	dir, path := writeProgram(t, "tell", `printf '%s|' "$@" $LOCALPORT_EVENT $LOCALPORT_SERVICE $LOCALPORT_PROJECT $LOCALPORT_STATE "$LOCALPORT_REASON" >said`)
	s := Settings{Command: []string{path, "{service} {event} in {project}", "{reason}", "{state}", ""}, Dir: dir, Env: os.Environ()}
	if err := send(t.Context(), s, failedNotification); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(filepath.Join(dir, "said"))
	want := "db failed in shop|" + failedNotification.Reason + "|needs_attention||failed|db|shop|needs_attention|" + failedNotification.Reason + "|"
	if err != nil || string(said) != want {
		t.Errorf("the program got %q, %v\nwant %q", said, err, want)
	}
}

func TestDesktopCommand_IsEmptyWithoutADesktop(t *testing.T) {
	dir, _ := writeProgram(t, "notify-send", `printf '%s|' "$@" >"$SAID"`)
	outputPath := filepath.Join(dir, "said")
	s := Settings{Desktop: true, Dir: dir, Env: []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "SAID=" + outputPath, "DISPLAY="}}
	if argv := s.desktopCommand("linux", failedNotification); argv != nil {
		t.Errorf("without a desktop: %q", argv)
	}
	s.Env = append(s.Env, "WAYLAND_DISPLAY=wayland-0")
	argv := s.desktopCommand("linux", failedNotification)
	if err := runProgram(t.Context(), process.Command{Argv: argv, Dir: dir, Env: s.Env}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(outputPath)
	want := `--app-name=localport|--|shop: db failed|say "{project}" &amp; &lt;b&gt;$HOME|`
	if err != nil || string(text) != want {
		t.Errorf("notify-send got %q, %v\nwant %q", text, err, want)
	}
}

func TestDesktopCommand_MacOSPassesTextsAsArguments(t *testing.T) {
	evil := failedNotification
	evil.Reason = `" & (do shell script "rm") & "`
	argv := Settings{Desktop: true}.desktopCommand("darwin", evil)
	i := slices.Index(argv, "--")
	if argv[0] != "osascript" || i < 0 || !slices.Equal(argv[i+1:], []string{"shop: db failed", evil.Reason}) {
		t.Errorf("osascript would get %q", argv)
	}
	if script := strings.Join(argv[:i], "\n"); strings.Contains(script, "rm") || strings.Contains(script, "shop") {
		t.Errorf("the script holds the text: %s", script)
	}
}

func TestSend_ErrorNamesTheProgramAndItsLastLines(t *testing.T) {
	_, path := writeProgram(t, "tell", "echo no bus >&2; exit 3")
	err := send(t.Context(), Settings{Command: []string{path}}, failedNotification)
	if err == nil || !strings.HasSuffix(err.Error(), "tell: exit status 3: no bus") {
		t.Errorf("it failed with %v", err)
	}
	err = send(t.Context(), Settings{Command: []string{"no-such-program"}, Env: []string{"PATH=/nowhere"}}, failedNotification)
	if _, missing := errors.AsType[*process.NotFoundError](err); !missing {
		t.Errorf("a program that is not there: %v", err)
	}
}

// writeHangingProgram writes a program that starts another and never ends; ids returns both processes once they run.
func writeHangingProgram(t *testing.T) (path string, ids func() []lockstate.Process) {
	dir, path := writeProgram(t, "tell", `trap "" TERM; sleep 1000 & echo $$ $! >"${0%/*}/fifo"; wait; wait`)
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
			process, isAlive := lockstate.FindProcess(pid)
			if !isAlive {
				t.Fatalf("process %d does not run", pid)
			}
			found = append(found, process)
		}
		return found
	}
}

func waitAllExit(t *testing.T, processes []lockstate.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, process := range processes {
		if err := lockstate.WaitExit(ctx, process); err != nil {
			t.Errorf("process %d was left behind: %v", process.PID, err)
		}
	}
}

func TestRunProgram_KillsTheGroupAfterTheTimeout(t *testing.T) {
	path, ids := writeHangingProgram(t)
	ctx := manualdeadline.New(t.Context())
	result := make(chan error, 1)
	go func() { result <- runProgram(ctx, process.Command{Argv: []string{path}, Env: os.Environ()}) }()
	processes := ids()
	close(ctx.DoneCh)
	if err := <-result; err == nil || !strings.Contains(err.Error(), "did not end within 10s") {
		t.Errorf("it ended with %v", err)
	}
	waitAllExit(t, processes)
}

func TestNotifier_CloseKillsTheRunningProgram(t *testing.T) {
	path, ids := writeHangingProgram(t)
	n := New(Settings{Command: []string{path}, Env: os.Environ(), Events: []string{"failed"}}, discardLogger())
	n.Notify(failedNotification)
	processes := ids()
	for i := range 1000 { // none of these waits for the program that hangs
		n.Notify(Notification{Event: "failed", Service: fmt.Sprint(i)})
	}
	n.Close()
	waitAllExit(t, processes)
}

func TestNotifier_LogsErrors(t *testing.T) {
	reader, writer := io.Pipe()
	n := New(Settings{Command: []string{"/no/such/program"}, Events: []string{"failed"}}, slog.New(slog.NewTextHandler(writer, nil)))
	n.Notify(failedNotification)
	line := make([]byte, 4096)
	size, err := reader.Read(line)
	if text := string(line[:size]); err != nil || !strings.Contains(text, "/no/such/program") || !strings.Contains(text, "service=db") {
		t.Errorf("logged: %q, %v", text, err)
	}
	reader.Close()
	n.Close()
}

// recordNotifications starts a notifier in a synctest bubble; the function returns what it has sent since the last call, and when.
func recordNotifications(t *testing.T, settings Settings) (*Notifier, func() string) {
	start := time.Now()
	var mu sync.Mutex
	var sent []string
	n := newNotifier(settings, discardLogger(), func(_ context.Context, _ Settings, notification Notification) error {
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, fmt.Sprintf("%v %s %s", time.Since(start), notification.Service, notification.Event))
		return nil
	})
	t.Cleanup(n.Close)
	return n, func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		defer func() { sent = nil }()
		return strings.Join(sent, ", ")
	}
}

func TestNotifier_LimitsAFlappingServiceAndKeepsTheLastState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, sent := recordNotifications(t, Settings{Desktop: true, Events: []string{"failed", "recovered"}})
		down, up := Notification{Event: "failed", Service: "db"}, Notification{Event: "recovered", Service: "db"}
		n.Notify(down)
		if got := sent(); got != "0s db failed" {
			t.Errorf("at first: %s", got)
		}
		for range 10 {
			n.Notify(up)
			n.Notify(down)
		}
		n.Notify(Notification{Event: "failed", Service: "api"})
		n.Notify(up)
		time.Sleep(minInterval)
		if got := sent(); got != "0s api failed, 5s db recovered" {
			t.Errorf("flapping: %s", got)
		}
		n.Notify(down)
		n.Notify(up)
		time.Sleep(minInterval)
		if got := sent(); got != "" {
			t.Errorf("back to what the user knows: %s", got)
		}
		n.Notify(up)
		if got := sent(); got != "10s db recovered" {
			t.Errorf("the same again, later: %s", got)
		}
	})
}

func TestNotifier_AChangeOfStateDelaysNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, sent := recordNotifications(t, Settings{Desktop: true, Events: []string{"state", "failed", "started", "ended"}})
		n.Notify(Notification{Event: "started"})
		n.Notify(Notification{Event: "state", Service: "db", State: "starting"})
		if got := sent(); !strings.Contains(got, "0s db state") || !strings.Contains(got, "0s  started") {
			t.Errorf("at first: %s", got)
		}
		n.Notify(Notification{Event: "failed", Service: "db"})
		n.Notify(Notification{Event: "state", Service: "db", State: "failed"})
		n.Notify(Notification{Event: "ended"})
		if got := sent(); got != "0s db failed, 0s  ended" {
			t.Errorf("within the interval: %s", got)
		}
		time.Sleep(minInterval)
		if got := sent(); got != "5s db state" {
			t.Errorf("after the interval: %s", got)
		}
	})
}

func TestNotifier_AProgramThatHangsDelaysNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, sentCh := make(chan struct{}), make(chan string, 2)
		n := newNotifier(Settings{Desktop: true, Events: []string{"state", "failed"}}, discardLogger(), func(_ context.Context, _ Settings, n Notification) error {
			if n.Event == "state" {
				<-release
			}
			sentCh <- n.Event
			return nil
		})
		n.Notify(Notification{Event: "state", Service: "db", State: "starting"})
		synctest.Wait()
		n.Notify(Notification{Event: "failed", Service: "db"})
		if got := <-sentCh; got != "failed" {
			t.Errorf("sent first: %s", got)
		}
		close(release)
		n.Close()
	})
}

func TestNotifier_CloseSendsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		n, sent := recordNotifications(t, Settings{Desktop: true, Events: []string{"failed", "recovered", "ended"}})
		n.Notify(Notification{Event: "failed", Service: "db"})
		synctest.Wait()
		n.Notify(Notification{Event: "recovered", Service: "db"}) // not due yet
		n.Notify(Notification{Event: "ended"})
		n.Close()
		n.Notify(Notification{Event: "failed", Service: "late"})
		if got := sent(); got != "0s db failed, 0s db recovered, 0s  ended" || time.Since(start) > 0 {
			t.Errorf("after %v sent: %s", time.Since(start), got)
		}
	})
}

func TestNotifier_CloseWaitsForNoProgramThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		n := newNotifier(Settings{Desktop: true, Events: []string{"failed"}}, discardLogger(), func(ctx context.Context, _ Settings, _ Notification) error {
			<-ctx.Done()
			return ctx.Err()
		})
		for i := range 100 {
			n.Notify(Notification{Event: "failed", Service: fmt.Sprint(i)})
		}
		n.Close()
		if took := time.Since(start); took != closeTimeout {
			t.Errorf("Close returned after %v", took)
		}
	})
}

func TestNotifier_SendsOnlyConfiguredEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, sent := recordNotifications(t, Settings{Desktop: true, Events: []string{"failed"}})
		n.Notify(Notification{Event: "recovered", Service: "db"})
		n.UpdateSettings(Settings{Events: []string{"recovered"}})
		n.Notify(Notification{Event: "recovered", Service: "db"}) // without a command or a desktop
		n.UpdateSettings(Settings{Command: []string{"x"}, Events: []string{"recovered"}})
		n.Notify(Notification{Event: "recovered", Service: "api"})
		if got := sent(); got != "0s api recovered" {
			t.Errorf("sent: %s", got)
		}
	})
}
