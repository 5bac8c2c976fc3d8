package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/shellpty"
)

func TestTop_NeedsATerminal(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t)
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	o := w.localport(root, "top")
	if o.code != 1 || !strings.Contains(o.stderr, "top needs a terminal") || !strings.Contains(o.stderr, `hint: in a pipe or a script, use "localport status -w" or "localport status --json"`) {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	if o := w.localport(w.home, "top"); o.code != 1 || !strings.Contains(o.stderr, "no .localport.toml") {
		t.Errorf("outside of a project: exit %d, %q", o.code, o.stderr)
	}
}

// promptNumber is what changes in the prompt of a test's shell.
var promptNumber = regexp.MustCompile(`\[\d+\]> `)

// topInShell is a shell in which top runs.
type topInShell struct {
	t *testing.T
	*shellpty.Shell
	starts int
}

// start types a command that shows top, and waits for its screen.
func (s *topInShell) start(line string) {
	s.t.Helper()
	s.starts++
	s.Type(line + "\r")
	eventually(s.t, "top is shown", func() bool { return strings.Count(s.Screen(), "overview") >= s.starts })
}

// settings returns the terminal's modes, and what is sent to it from a line's end to the next prompt, without the prompt's number.
func (s *topInShell) settings(file string) string {
	s.t.Helper()
	s.Run("stty -a >" + file)
	modes, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Run("true")
	_, sent, _ := strings.Cut(promptNumber.ReplaceAllString(s.Raw(), "[N]> "), "\n")
	return string(modes) + sent[:strings.LastIndex(sent, "[N]> ")]
}

// pid returns the process of top.
func (s *topInShell) pid() int {
	s.t.Helper()
	pid := 0
	eventually(s.t, "top is a child of the shell", func() bool {
		out, _ := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(s.PID())).Output()
		pid, _ = strconv.Atoi(strings.TrimSpace(string(out)))
		return pid > 0
	})
	return pid
}

func TestTop_LeavesTheShellsTerminalAsItWas(t *testing.T) {
	eachShell(t, func(t *testing.T, kind string) {
		w := newTestEnv(t).withEnv("TERM=xterm-256color")
		root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
		w.mustRun(root, "start")
		s := &topInShell{t: t, Shell: w.plainShell(kind, "", root)}
		file := w.home + "/modes"
		s.settings(file)
		before := s.settings(file)
		command := w.exe + " top"
		for name, end := range map[string]func(){
			"q":      func() { s.Type("q") },
			"Ctrl-C": func() { s.Type("\x03") },
			"TERM":   func() { _ = syscall.Kill(s.pid(), syscall.SIGTERM) },
			"Ctrl-Z": func() {
				s.Type("\x1a")
				s.AwaitPrompt()
				if after := s.settings(file); after != before {
					t.Errorf("suspended: got %q, before %q", after, before)
				}
				s.starts = 0
				s.start("fg")
				s.Type("q")
			},
		} {
			s.starts = 0
			s.Run("true")
			s.start(command)
			end()
			s.AwaitPrompt()
			s.starts = 0
			if after := s.settings(file); after != before {
				t.Errorf("%s: got %q, before %q", name, after, before)
			}
		}
		s.Run("true")
		s.start(command)
		pid := s.pid()
		s.Hangup()
		eventually(t, "the closed terminal ends top", func() bool { return syscall.Kill(pid, 0) != nil })
	})
}

// A viewer is no user: it takes no lease, and the project ends although somebody looks.
func TestTop_TakesNoLease(t *testing.T) {
	t.Parallel()
	w := newTestEnv(t).withEnv("TERM=xterm-256color")
	root := w.allowedProject(tcpConfig("web", ports.FreePort(t), serve(t, "127.0.0.1:0")))
	w.mustRun(root, "start")
	s := &topInShell{t: t, Shell: w.plainShell("bash", "", root)}
	s.start(w.exe + " top")
	if leases := w.status(root).Leases; len(leases) != 1 {
		t.Errorf("leases %+v", leases)
	}
	w.mustRun(root, "stop")
	eventually(t, "it shows that the project is stopped", func() bool { return strings.Contains(s.Screen(), "no supervisor runs") })
	w.mustRun(root, "start")
	eventually(t, "it shows the next supervisor", func() bool { return strings.Contains(s.Screen(), "connected to the supervisor") })
	s.Type("q")
	s.AwaitPrompt()
}

// tmuxServer is a tmux of our own, in which top runs.
type tmuxServer struct {
	w    *testEnv
	name string
}

func (s tmuxServer) run(args ...string) string {
	s.w.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-L", s.name, "-f", "/dev/null"}, args...)...)
	cmd.Env = s.w.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.w.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// awaitScreen waits until the screen shows all of these texts.
func (s tmuxServer) awaitScreen(texts ...string) string {
	s.w.t.Helper()
	screen := ""
	eventually(s.w.t, strings.Join(texts, ", ")+" is shown", func() bool {
		screen = s.run("capture-pane", "-p")
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
	return screen
}

func TestTop_InTmux(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not installed")
	}
	w := newTestEnv(t).withEnv("TERM=xterm-256color", "LANG=C.UTF-8")
	web, port := serve(t, "127.0.0.1:0"), ports.FreePort(t)
	root := w.allowedProject(tcpConfig("web", port, web) + tcpConfig("other", ports.FreePort(t), web))
	w.mustRun(root, "start")
	conn := dial(t, fmt.Sprintf("127.0.0.1:%d", port))
	conn.exchangeLine("hi")
	s := tmuxServer{w, fmt.Sprintf("localport-test-%d-%d", os.Getpid(), time.Now().UnixNano())}
	s.run("new-session", "-d", "-x", "80", "-y", "24", "-c", root, "sh")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.run("capture-pane", "-p"))
		}
		s.run("kill-server")
	})
	s.run("send-keys", w.exe+" top", "Enter")
	own := fmt.Sprintf("(pid %d)", os.Getpid())
	s.awaitScreen("▸ web", fmt.Sprintf("127.0.0.1:%d", port), "1 connection", own, "starting → healthy", "q quit")
	s.run("resize-window", "-x", "200", "-y", "50")
	s.awaitScreen("CLIENTS", "│ events")
	s.run("resize-window", "-x", "40", "-y", "10")
	s.awaitScreen("r restart  s stop  ? help  q quit")
	s.run("resize-window", "-x", "80", "-y", "24")
	s.run("send-keys", "/", "oth", "Enter", "s", "y")
	s.awaitScreen("▸ other    stopped")
	s.run("send-keys", "r")
	s.awaitScreen("▸ other    healthy")
	s.run("send-keys", "Escape", "l")
	s.awaitScreen("web", "logs")
	s.run("send-keys", "q")
	s.awaitScreen(" top") // the line that was typed
	if screen := s.run("capture-pane", "-p"); strings.Contains(screen, "q quit") {
		t.Errorf("the screen was not restored:\n%s", screen)
	}
}
