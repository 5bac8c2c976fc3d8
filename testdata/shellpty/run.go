package shellpty

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// promptTimeout is how long a shell may take to answer on a busy machine.
const promptTimeout = 30 * time.Second

// Run types a line, waits for the prompt after it and returns the line's exit status. A line with anything in it that
// a line editor would act on (a tab, a newline, a letter that is not ASCII) is put in a file and sourced.
func (s *Shell) Run(line string) int {
	s.t.Helper()
	s.typeLine(line)
	s.AwaitPrompt()
	return s.prompt.status
}

// Eval returns what a word of the shell expands to, such as `"$HOME"`.
func (s *Shell) Eval(word string) string {
	s.t.Helper()
	s.typeLine("shellpty_tell " + word)
	value := s.awaitReport('V')
	s.AwaitPrompt()
	return value
}

// Environ is the environment that a program started by the shell gets.
func (s *Shell) Environ() map[string]string {
	s.t.Helper()
	path := filepath.Join(s.workDir, "environ")
	if status := s.Run("env -0 >" + path); status != 0 {
		s.t.Fatalf("env -0: exit status %d", status)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = os.Remove(path) // the shell may have noclobber
	env := make(map[string]string)
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	return env
}

// Type sends keys to the shell's terminal and waits for nothing.
func (s *Shell) Type(keys string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(keys); err != nil {
		s.t.Fatalf("type %q: %v", keys, err)
	}
}

// Screen is what the terminal showed since the last line was typed: the line itself, what it printed, and all of the
// prompt after it. Escape sequences and carriage returns are taken out.
func (s *Shell) Screen() string {
	s.t.Helper()
	return s.screen.waitForText(s.t, s.outputStart, s.prompt.text())
}

// Output is Screen without the line and the prompt: what a user would call the output of the last line.
func (s *Shell) Output() string {
	s.t.Helper()
	text := s.Screen()
	if end := strings.LastIndex(text, s.prompt.text()); end >= 0 {
		text = text[:end]
	}
	_, text, _ = strings.Cut(text, "\n")
	return strings.TrimSpace(text)
}

func (s *Shell) typeLine(line string) {
	s.t.Helper()
	if len(line) > 1000 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		path := filepath.Join(s.workDir, "line")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		line = s.setup.sourceCommand + " " + path
	}
	s.screen.waitForText(s.t, s.outputStart, s.prompt.text()) // else the line is echoed by the terminal and by the shell
	s.outputStart = s.screen.len()
	s.Type(line + "\r")
}

// AwaitPrompt waits for the next prompt, after Type. A shell may draw one prompt several times: its number tells.
func (s *Shell) AwaitPrompt() {
	s.t.Helper()
	last := s.prompt.number
	for s.prompt.number <= last {
		s.prompt = parsePrompt(s.t, s.awaitReport('P'))
	}
}

// awaitReport returns the next report of a kind, and drops those of the other kinds before it.
func (s *Shell) awaitReport(kind byte) string {
	s.t.Helper()
	deadline := time.NewTimer(promptTimeout)
	defer deadline.Stop()
	for {
		select {
		case message := <-s.report.messageCh:
			if message[0] == kind {
				return message[1:]
			}
		case <-s.endedCh:
			s.t.Fatalf("the shell has ended; on its screen:\n%s", s.screen.text(0))
		case <-deadline.C:
			s.t.Fatalf("no report from the shell in %s; on its screen:\n%s", promptTimeout, s.screen.text(0))
		}
	}
}

func (s *Shell) awaitEnd() {
	s.t.Helper()
	select {
	case <-s.endedCh:
	case <-time.After(promptTimeout):
		s.t.Fatalf("the shell has not ended in %s; on its screen:\n%s", promptTimeout, s.screen.text(0))
	}
}
