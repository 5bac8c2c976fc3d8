package top

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

// fixedSource is a project in which nothing changes.
type fixedSource struct {
	status func() api.Status
}

func (s fixedSource) Status(context.Context) (api.Status, error)    { return s.status(), nil }
func (s fixedSource) Watch(ctx context.Context, _ func(api.Status)) { <-ctx.Done() }
func (s fixedSource) Events() []Event                               { return nil }
func (s fixedSource) Log(string, string) []LogLine                  { return nil }
func (s fixedSource) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", "-c", `echo "ran $*"; stty -a; read answer; echo "heard $answer"; [ "$answer" != fail ]`, "sh", strings.Join(args, " "))
}

// terminal is a pseudo-terminal on which Run runs.
type terminal struct {
	t      *testing.T
	user   *os.File
	tty    *os.File
	seen   syncbuf.Buffer
	before unix.Termios
	doneCh chan error
	from   int // where what was shown since the last key begins
}

// startTop runs the program on a terminal.
func startTop(t *testing.T, source Source) *terminal {
	t.Helper()
	blocking, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(blocking.Fd()))
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = blocking.Close()
	user := os.NewFile(uintptr(fd), "user") // its Close ends the reader, whoever has the terminal open
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, user: user, tty: tty, doneCh: make(chan error, 1)}
	term.before = term.modes()
	var readers sync.WaitGroup
	readers.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, err := user.Read(buffer)
			_, _ = term.seen.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { tty.Close(); user.Close(); readers.Wait() })
	go func() { term.doneCh <- Run(source, shop(), sceneOptions, tty, tty) }()
	term.await("overview")
	return term
}

func (s *terminal) modes() unix.Termios {
	s.t.Helper()
	modes, err := unix.IoctlGetTermios(int(s.tty.Fd()), getTermios)
	if err != nil {
		s.t.Fatal(err)
	}
	return *modes
}

// awaitLimit is how long anything may take on a busy machine.
const awaitLimit = 10 * time.Second

// await waits until the terminal was sent this text after the last key.
func (s *terminal) await(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(awaitLimit); !strings.Contains(s.seen.String()[s.from:], text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%q was not shown: %q", text, s.seen.String())
		}
	}
}

func (s *terminal) press(keys string) {
	s.t.Helper()
	s.from = len(s.seen.String())
	if _, err := s.user.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// checkEnd waits for the end of the program, and checks that it left the terminal as it was.
func (s *terminal) checkEnd() error {
	s.t.Helper()
	var err error
	select {
	case err = <-s.doneCh:
	case <-time.After(awaitLimit):
		s.t.Fatal("it does not end")
	}
	if after := s.modes(); after != s.before {
		s.t.Errorf("modes %+v, before %+v", after, s.before)
	}
	_, _ = s.tty.WriteString("this is the end") // when it has been read, so has what came before
	s.await("this is the end")
	checkSequences(s.t, s.seen.String())
	return err
}

// checkSequences checks that every mode was undone that the terminal was put into, and that it was asked nothing, since an answer might arrive at the
// shell.
func checkSequences(t interface{ Errorf(string, ...any) }, sent string) {
	for _, mode := range []struct{ set, reset string }{
		{"\x1b[?1049h", "\x1b[?1049l"}, // the other screen
		{"\x1b[?25l", "\x1b[?25h"},     // no cursor
		{"\x1b[?2004h", "\x1b[?2004l"}, // pasted text is marked
	} {
		if last := strings.LastIndex(sent, mode.reset); !strings.Contains(sent, mode.set) || last < strings.LastIndex(sent, mode.set) {
			t.Errorf("%q was not undone", mode.set)
		}
	}
	for _, unwanted := range []string{
		"\x1b[>", "\x1b[=", "\x1b[<", "\x1b[?u", // kitty's keyboard protocol, modifyOtherKeys, a question for the version
		"\x1b[?1000h", "\x1b[?1002h", "\x1b[?1003h", "\x1b[?1006h", // the mouse
		"$p", "\x1b[c", "\x1b[6n", "\x1bP", "\x1b]10;?", "\x1b]11;?", // questions
	} {
		if strings.Contains(sent, unwanted) {
			t.Errorf("it sent %q", unwanted)
		}
	}
}

func TestRun_LeavesTheTerminalAsItWas(t *testing.T) {
	for _, keys := range []string{"q", "\x03", "/\x03"} {
		term := startTop(t, fixedSource{shop})
		term.press(keys)
		if err := term.checkEnd(); err != nil {
			t.Errorf("%q: %v", keys, err)
		}
	}
}

func TestRun_LeavesTheTerminalAsItWasAfterAPanic(t *testing.T) {
	var calls atomic.Int32
	term := startTop(t, fixedSource{func() api.Status {
		if calls.Add(1) > 1 {
			panic("a mistake of ours")
		}
		return shop()
	}})
	var panicked *PanicError
	if err := term.checkEnd(); !errors.As(err, &panicked) || !strings.Contains(string(panicked.Stack), "program_test.go") {
		t.Errorf("got %v", err)
	}
}

func TestRun_ReleasesTheTerminalForALogin(t *testing.T) {
	term := startTop(t, fixedSource{shop})
	term.press("i")
	term.await("ran login postgres")
	term.await(" icanon") // not -icanon
	checkSequences(t, term.seen.String())
	term.press("secret\r") // a carriage return is a line end again
	term.await("heard secret")
	term.await("login postgres: done")
	term.press("i")
	term.await(" icanon")
	term.press("fail\r")
	term.await("press Enter to return to top")
	term.press("\r")
	term.await("exit status 1")
	term.press("q")
	if err := term.checkEnd(); err != nil {
		t.Error(err)
	}
}

func TestRun_CopiesTheAddressWithOSC52(t *testing.T) {
	term := startTop(t, fixedSource{shop})
	term.press("y")
	term.await("\x1b]52;c;MTI3LjAuMC4xOjU0MzI=\a") // 127.0.0.1:5432 in base64
	term.press("q")
	if err := term.checkEnd(); err != nil {
		t.Error(err)
	}
}

func TestRun_FollowsTheSizeOfTheTerminal(t *testing.T) {
	term := startTop(t, fixedSource{shop})
	if err := pty.Setsize(term.tty, &pty.Winsize{Rows: 50, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	_ = unix.Kill(os.Getpid(), unix.SIGWINCH) // the kernel sends it to the terminal's foreground group
	term.await("CLIENTS")
	term.press("q")
	if err := term.checkEnd(); err != nil {
		t.Error(err)
	}
}

func TestRun_EndsWithTheTerminal(t *testing.T) {
	term := startTop(t, fixedSource{shop})
	term.user.Close()
	select {
	case <-term.doneCh: //nolint:errcheck // whatever it could not write
	case <-time.After(awaitLimit):
		t.Fatal("it does not end")
	}
}

func TestDecodeKeys(t *testing.T) {
	t.Parallel()
	keys := func(names ...string) (messages []any) {
		for _, name := range names {
			text := ""
			if len([]rune(name)) == 1 {
				text = name
			}
			messages = append(messages, KeyMsg{Key: name, Text: text})
		}
		return messages
	}
	for _, tt := range []struct {
		sent string
		want []any
		rest string // if more may come
	}{
		{"jé/日", keys("j", "é", "/", "日"), ""},
		{"\x1b[A\x1bOB\x1b[1;5H\x1b[5~\x1b[H", keys("up", "down", "pgup", "home"), ""},
		{"\r\t\x7f\x03\x1a\n", keys("enter", "tab", "backspace", "ctrl+c", "ctrl+z", "enter"), ""},
		{"\x1b", nil, "\x1b"},
		{"q\x1b[", keys("q"), "\x1b["},
		{"\x1bq", keys("esc", "q"), ""},
		{"\xe6\x97", nil, "\xe6\x97"},
		{"\xffq", keys("q"), ""},
		{"\x1b[200~rm -rf\r\x1b[201~q", append([]any{PasteMsg{"rm -rf\r"}}, keys("q")...), ""},
		{"\x1b[200~half", nil, "\x1b[200~half"},
		{"\x1b[<0;1;1Mq\x1b[?1;2cq", keys("q", "q"), ""}, // a mouse, an answer: nobody asked
		{"\x1b[[Aq", keys("f1", "q"), ""},
	} {
		if got, rest := decodeKeys([]byte(tt.sent), false); !reflect.DeepEqual(got, tt.want) || string(rest) != tt.rest {
			t.Errorf("%q: got %v, rest %q", tt.sent, got, rest)
		}
	}
	if got, _ := decodeKeys([]byte("\x1b"), true); !reflect.DeepEqual(got, keys("esc")) {
		t.Errorf("ESC alone: got %v", got)
	}
}

func TestDecodeKeys_ReadsAnythingToItsEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data := []byte(rapid.StringOf(rapid.SampledFrom([]rune("\x1b[O0;~ABaq\r\x03 ü日"))).Draw(t, "data"))
		whole, rest := decodeKeys(data, true)
		if len(rest) != 0 {
			t.Fatalf("rest %q", rest)
		}
		// However it is split, the keys are the same.
		cut := rapid.IntRange(0, len(data)).Draw(t, "cut")
		first, pending := decodeKeys(data[:cut], false)
		second, _ := decodeKeys(append(slices.Clip(pending), data[cut:]...), true)
		if got := append(first, second...); !reflect.DeepEqual(got, whole) {
			t.Fatalf("%q cut at %d: got %v, want %v", data, cut, got, whole)
		}
	})
}
