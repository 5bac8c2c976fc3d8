package shellpty

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// promptTimeout is how long a shell may take to answer, on a busy machine.
const promptTimeout = 30 * time.Second

// Run types a line, waits for the next prompt and returns the line's exit status. A line that a line editor would change (because of a
// tab, a newline, a letter that is not ASCII) is written to a file, which the shell sources.
func (s *Shell) Run(line string) int {
	s.t.Helper()
	s.typeLine(line)
	s.AwaitPrompt()
	return s.prompt.status
}

// Eval returns what a word, such as `"$HOME"`, expands to in the shell: in bash, zsh and fish.
func (s *Shell) Eval(word string) string {
	s.t.Helper()
	s.typeLine("shellpty_tell " + word)
	value := s.awaitReport('V')
	s.AwaitPrompt()
	return value
}

// Environ returns the environment that the shell gives to programs.
func (s *Shell) Environ() map[string]string {
	s.t.Helper()
	path := filepath.Join(s.workDir, "environ")
	command := s.setup.environTo
	if command == "" {
		command = "env -0 >"
	}
	if status := s.Run(command + path); status != 0 {
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

// Type writes keys to the shell's terminal and does not wait.
func (s *Shell) Type(keys string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(keys); err != nil {
		s.t.Fatalf("type %q: %v", keys, err)
	}
}

// Screen returns what the terminal has shown since the last line was typed: the line, its output, and the whole prompt after it,
// without escape sequences and carriage returns.
func (s *Shell) Screen() string {
	s.t.Helper()
	return s.screen.waitForText(s.t, s.outputStart, s.prompt.text())
}

// Output returns the output of the last line: Screen without the line and the prompt.
func (s *Shell) Output() string {
	s.t.Helper()
	text := s.Screen()
	if end := strings.LastIndex(text, s.prompt.text()); end >= 0 {
		text = text[:end]
	}
	_, text, _ = strings.Cut(text, "\n")
	if s.setup.repeatsPrompt { // the last line's and, when the screen is drawn again, its own
		for _, number := range []int{s.prompt.number - 1, s.prompt.number} {
			text = strings.ReplaceAll(text, strings.TrimSpace(prompt{number: number}.text()), "")
		}
	}
	return strings.TrimSpace(text)
}

// Raw returns what Screen returns, with all escape sequences and carriage returns.
func (s *Shell) Raw() string {
	s.t.Helper()
	s.Screen()
	return s.screen.raw(s.outputStart)
}

// typeLine types a line once the prompt is on the screen.
func (s *Shell) typeLine(line string) {
	s.t.Helper()
	if len(line) > 1000 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		path := filepath.Join(s.workDir, "line")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		line = s.setup.sourceCommand + " " + path
	}
	s.screen.waitForText(s.t, s.outputStart, s.prompt.text()) // otherwise both the terminal and the shell echo the line
	s.outputStart = s.screen.len()
	s.Type(line + "\r")
}

// AwaitPrompt waits for the next prompt to be on the screen, after Type. A shell may report one prompt several times, with the same number.
// In bash a hook may run after the report; if it is interrupted, another report follows.
func (s *Shell) AwaitPrompt() {
	s.t.Helper()
	for last := s.prompt.number; s.prompt.number <= last; {
		s.prompt = parsePrompt(s.t, s.awaitReport('P'))
	}
	deadline := time.NewTimer(promptTimeout)
	defer deadline.Stop()
	for {
		text, changedCh := s.screen.watch(s.outputStart)
		if strings.Contains(text, s.prompt.text()) {
			return
		}
		select {
		case message := <-s.report.messageCh:
			if message[0] == 'P' {
				s.prompt = parsePrompt(s.t, message[1:])
			}
		case <-changedCh:
		case <-s.endedCh:
			s.t.Fatalf("the shell has ended; on its screen:\n%s", s.screen.text(0))
		case <-deadline.C:
			s.t.Fatalf("%q not on the screen after %s:\n%s", s.prompt.text(), promptTimeout, text)
		}
	}
}

// awaitReport returns the next report of a kind, without the kind, and drops reports of other kinds before it.
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
