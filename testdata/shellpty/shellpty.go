// Package shellpty runs a real interactive shell on a pseudo-terminal, for tests. At each prompt the shell reports through a pipe, so that
// a test need not guess from the screen when a command has ended.
package shellpty

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// Config says how to start a shell. Only Shell is required.
type Config struct {
	Shell string   // "bash", "zsh", "fish", "tcsh", "elvish" or "nu"
	Args  []string // further arguments of the shell
	RC    string   // the text of the shell's start-up file
	Dir   string   // the working directory; "": Home
	Home  string   // HOME, which contains the XDG directories; "": a new directory. Shells with the same Home share state.
	Env   []string // added to the clean environment: PATH, HOME, XDG_*, TERM, LANG
	Wrap  []string // a command line to which the shell's is appended, such as strace
	// ReportFirst installs the report before RC, where it is an earlier prompt hook to what RC installs: in bash and zsh. Prompt hooks of RC may
	// then run after it.
	ReportFirst bool
}

// Shell is a running shell. Its methods fail the test if the shell does not answer. Only one goroutine may call them at a time.
type Shell struct {
	t           testing.TB
	setup       shellSetup
	home        string
	workDir     string // has the start-up file and the pipe
	cmd         *exec.Cmd
	tty         *os.File
	report      *reportPipe
	screen      screen
	endedCh     chan struct{} // closed when the process has been waited for
	readers     sync.WaitGroup
	prompt      prompt // the last one
	outputStart int    // where the last command's output begins on the screen
}

// handleInterrupts makes sure that shells and their children do not ignore Ctrl-C, which they would inherit from tests that were started in the
// background of a script. A signal that a process handles has its default action in the programs that it starts.
var handleInterrupts = sync.OnceFunc(func() {
	for _, interrupt := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(interrupt) {
			signal.Notify(make(chan os.Signal, 1), interrupt)
		}
	}
})

// Start starts a shell and waits for its first prompt. It skips the test if the shell is not installed. The shell ends with the test.
func Start(t testing.TB, c Config) *Shell {
	t.Helper()
	handleInterrupts()
	path, err := exec.LookPath(c.Shell)
	if err != nil {
		t.Skipf("%s is not installed", c.Shell)
	}
	s := &Shell{t: t, setup: shellSetups[c.Shell], home: c.Home, workDir: NewDir(t), endedCh: make(chan struct{})}
	if s.home == "" {
		s.home = NewDir(t)
	}
	s.report = openReportPipe(t, filepath.Join(s.workDir, "report"))
	argv := append(append([]string{}, c.Wrap...), path)
	argv = append(append(argv, s.setup.writeStartupFile(t, s.home, s.workDir, c)...), c.Args...)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Dir = c.Dir
	if s.cmd.Dir == "" {
		s.cmd.Dir = s.home
	}
	s.cmd.Env = s.environ(t, path, c.Env)
	if s.tty, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 50, Cols: 500}); err != nil {
		t.Fatalf("start %s on a terminal: %v", argv[0], err)
	}
	if s.tty, err = reopenNonblocking(s.tty); err != nil {
		t.Fatal(err)
	}
	s.readers.Go(func() { s.screen.copy(s.tty) })
	s.readers.Go(func() { _ = s.cmd.Wait(); close(s.endedCh) })
	t.Cleanup(s.close)
	s.AwaitPrompt()
	return s
}

// reopenNonblocking returns the terminal as a file whose Close takes effect while another goroutine reads from it. Otherwise the shell
// would get no SIGHUP, which it gets when a window is closed.
func reopenNonblocking(tty *os.File) (*os.File, error) {
	defer tty.Close()
	fd, err := syscall.Dup(int(tty.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), tty.Name()), nil
}

// NewDir makes a directory with a short path without symbolic links. It is removed with the test.
func NewDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shellpty") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// environ returns a clean environment, followed by extra, which takes precedence.
func (s *Shell) environ(t testing.TB, shell string, extra []string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "SHELL=" + shell, "TERM=dumb", "LANG=C.UTF-8",
		"USER=tester", "ZDOTDIR=" + s.workDir,
	}
	for _, kind := range []string{"CONFIG", "DATA", "STATE", "CACHE", "RUNTIME"} {
		name, dir := "XDG_"+kind+"_HOME", filepath.Join(s.home, strings.ToLower(kind))
		if kind == "RUNTIME" {
			name = "XDG_RUNTIME_DIR"
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+dir)
	}
	return append(append(env, "GOCOVERDIR="+CoverDir()), extra...)
}

// CoverDir returns the GOCOVERDIR for the programs that a test starts: without one, a program built with coverage prints a warning. It
// is not go test's own, which go test empties, if LOCALPORT_TEST_COVERDIR names another.
func CoverDir() string {
	if dir := os.Getenv("LOCALPORT_TEST_COVERDIR"); dir != "" {
		return dir
	}
	return os.Getenv("GOCOVERDIR")
}

// PID returns the shell's process id, not that of Wrap.
func (s *Shell) PID() int { return s.prompt.pid }

// Home returns the shell's HOME.
func (s *Shell) Home() string { return s.home }

// Kill sends SIGKILL to the shell and returns when it has ended.
func (s *Shell) Kill() {
	if s.prompt.pid > 0 && !s.hasEnded() {
		_ = syscall.Kill(s.prompt.pid, syscall.SIGKILL)
	} else {
		_ = s.cmd.Process.Kill()
	}
	<-s.endedCh
}

// Hangup closes the terminal, as closing a window does, and returns when the shell has ended.
func (s *Shell) Hangup() {
	s.t.Helper()
	_ = s.tty.Close()
	s.awaitEnd()
}

// Exit types a line that ends the shell, such as "exit" or "exec true", and returns when the shell has ended.
func (s *Shell) Exit(line string) {
	s.t.Helper()
	s.typeLine(line)
	s.awaitEnd()
}

func (s *Shell) hasEnded() bool {
	select {
	case <-s.endedCh:
		return true
	default:
		return false
	}
}

func (s *Shell) close() {
	s.Kill()
	_ = s.tty.Close()
	s.readers.Wait()
	s.report.close()
}
