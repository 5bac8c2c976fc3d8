package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

func TestStatusWatch_PrintsChangesUntilCtrlC(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	port := ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, serve(t, "127.0.0.1:0")))
	var seen syncbuf.Buffer
	c, err := process.Start(process.Command{
		Argv: []string{w.exe, "status", "--watch"}, Dir: root, Env: w.env,
		OnLine: func(_ process.Stream, line string) { fmt.Fprintln(&seen, line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill(); <-c.Done() })
	line := func(state forwarder.State) string { return fmt.Sprintf("web %s 127.0.0.1:%d\n", state, port) }
	await := func(state forwarder.State) {
		eventually(t, "it prints "+line(state), func() bool { return strings.HasSuffix(seen.String(), line(state)) })
	}
	await(forwarder.Stopped)
	w.mustRun(root, "start")
	await(forwarder.Healthy)
	w.mustRun(root, "stop", "web")
	await(forwarder.Stopped)
	w.mustRun(root, "stop")
	w.mustRun(root, "start")
	await(forwarder.Healthy)
	lines := strings.Split(strings.TrimSpace(seen.String()), "\n")
	if len(slices.Compact(slices.Clone(lines))) != len(lines) {
		t.Errorf("unchanged lines were printed again: %q", lines)
	}
	_ = syscall.Kill(c.Pid(), syscall.SIGINT)
	<-c.Done()
	if c.ExitStatus() != "exit status 0" {
		t.Errorf("status --watch ended with %s", c.ExitStatus())
	}
}

// watchJSON runs "status --watch --json" and returns the status that it printed last, and how many times it has asked for a comparison.
func (w *testEnv) watchJSON(root string) (last func() api.Status, comparisons func() int) {
	w.t.Helper()
	var seen syncbuf.Buffer
	c, err := process.Start(process.Command{
		Argv: []string{w.exe, "status", "--watch", "--json"}, Dir: root, Env: w.env,
		OnLine: func(_ process.Stream, line string) { fmt.Fprintln(&seen, line) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Kill(); <-c.Done() })
	return func() (status api.Status) {
			lines := strings.Split(strings.TrimSpace(seen.String()), "\n")
			_ = json.Unmarshal([]byte(lines[len(lines)-1]), &status)
			return status
		}, func() int {
			return strings.Count(w.mustRun(root, "logs", "supervisor", "--level", "debug"), "path=/v1/environment")
		}
}

func TestStatusWatch_ComparesTheEnvironmentWhenThatOfTheSupervisorChanges(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	a := serve(t, "127.0.0.1:0")
	one, two := w.withEnv(fmt.Sprintf("UPSTREAM=%d", a.port), "LOCALPORT_LOG_LEVEL=debug"), w.withEnv(fmt.Sprintf("UPSTREAM=%d", serveBanner(t).port))
	root := one.allowedProject(strings.Replace(tcpConfig("web", ports.FreePort(t), a), fmt.Sprint("remote_port = ", a.port), `remote_port = "${UPSTREAM}"`, 1))
	one.mustRun(root, "start")
	startTime := time.Now()
	last, comparisons := two.watchJSON(root)
	const differs = `this shell's UPSTREAM differs; "localport restart" uses it`
	eventually(t, "the difference is shown", func() bool { return slices.Contains(last().Warnings, differs) })
	two.mustRun(root, "restart")
	eventually(t, "it is gone", func() bool { return last().Config != "" && len(last().Warnings) == 0 })
	one.mustRun(root, "daemon", "restart")
	eventually(t, "it is shown again", func() bool { return slices.Contains(last().Warnings, differs) })
	one.mustRun(root, "stop", "web")
	eventually(t, "the stop is shown", func() bool { return last().Services[0].State == forwarder.Stopped })
	// Once at first, once for the restart, once for the new supervisor, and after each renewInterval.
	if n, limit := comparisons(), 3+int(time.Since(startTime)/renewInterval); n > limit {
		t.Errorf("it asked %d times within %v, limit %d", n, time.Since(startTime), limit)
	}
}

func TestStatusWatch_IsRedrawnInPlaceOnATerminal(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	cmd := w.command(root, "status", "--watch")
	// If this process dies, the hangup of the terminal ends the command.
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	var seen syncbuf.Buffer
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			_, _ = seen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); tty.Close(); reader.Wait() })
	shows := func(state forwarder.State) {
		eventually(t, "the terminal shows "+string(state), func() bool {
			picture := drawScreen(seen.String())
			return len(picture) == 3 && slices.Contains(strings.Fields(picture[2]), string(state))
		})
	}
	shows(forwarder.Stopped)
	w.mustRun(root, "start")
	shows(forwarder.Healthy)
	if _, err := tty.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C ended it with %v", err)
	}
}

// drawScreen returns the lines that a terminal shows after it was sent this. It knows only what `status --watch` uses.
func drawScreen(sent string) []string {
	rows, row := []string{""}, 0
	for len(sent) > 0 {
		var up int
		if n, _ := fmt.Sscanf(sent, cursorUp[:len(cursorUp)-1], &up); n == 1 {
			row = max(row-up, 0)
			sent = sent[strings.IndexByte(sent, 'A')+1:]
			continue
		}
		switch {
		case strings.HasPrefix(sent, clearLine):
			rows[row], sent = "", sent[len(clearLine):]
		case strings.HasPrefix(sent, clearRest):
			rows, sent = rows[:row], sent[len(clearRest):]
			rows = append(rows, "")
		case sent[0] == '\n':
			if row++; row == len(rows) {
				rows = append(rows, "")
			}
			sent = sent[1:]
		case sent[0] == '\r':
			sent = sent[1:]
		default:
			rows[row], sent = rows[row]+sent[:1], sent[1:]
		}
	}
	return rows[:len(rows)-1]
}

func TestScreenView_RedrawnScreenKeepsNothingOfThePreviousOne(t *testing.T) {
	var out bytes.Buffer
	columns, rows := 200, 10
	r := &screenView{out: &out, size: func() (int, int) { return columns, rows }, encode: output.NewWriter(&out).Encode}
	status := func(services int, hint string) api.Status {
		s := api.Status{Project: "/shop", State: api.StateRunning}
		for i := range services {
			s.Services = append(s.Services, api.ServiceStatus{Name: fmt.Sprint("svc", i), State: forwarder.Healthy, Hint: hint})
		}
		return s
	}
	for _, step := range []struct {
		status api.Status
		want   int
	}{
		{status(3, ""), 5},
		{status(1, "a hint"), 4},
		{status(1, strings.Repeat("long ", 60)), 5},
		{status(50, ""), rows - 1},
		{status(2, ""), 4},
	} {
		if err := r.show(step.status); err != nil {
			t.Fatal(err)
		}
		shown := drawScreen(out.String())
		if len(shown) != step.want || !strings.HasPrefix(shown[0], "shop: running") {
			t.Errorf("want %d lines:\n%s", step.want, strings.Join(shown, "\n"))
		}
	}
	r.showProblem(errors.New("no answer"))
	if shown := drawScreen(out.String()); len(shown) != 1 || shown[0] != "localport: no answer" {
		t.Errorf("%q", shown)
	}
}
