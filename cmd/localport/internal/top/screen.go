package top

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The control sequences of xterm that are used (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html). None of them has an answer, which could
// arrive at the shell, and every mode is undone.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?2004h" // the other screen, no cursor, pasted text is marked
	leaveScreen = "\x1b[m\x1b[?2004l\x1b[?25h\x1b[?1049l"
	clearScreen = "\x1b[r\x1b[m\x1b[2J" // all of it scrolls, and is empty
)

// screen shows lines on the whole terminal.
type screen struct {
	out   *os.File
	shown []string // what the terminal shows; nil: unknown
}

// write ignores errors: if the terminal is gone, a signal or its input says so.
func (s *screen) write(text string) { _, _ = s.out.WriteString(text) }

func (s *screen) enter() {
	s.write(enterScreen)
	s.shown = nil
}

func (s *screen) leave() { s.write(leaveScreen) }

// redraw has the next draw write all lines.
func (s *screen) redraw() { s.shown = nil }

// draw shows a text, of lines that are as long as the terminal is wide. Lines that are shown already are not written.
func (s *screen) draw(text string) {
	lines := strings.Split(text, "\n")
	var b strings.Builder
	if len(s.shown) != len(lines) {
		b.WriteString(clearScreen)
		s.shown = make([]string, len(lines))
	}
	for i, line := range lines {
		if s.shown[i] != line {
			fmt.Fprintf(&b, "\x1b[%d;1H%s", i+1, line)
		}
	}
	s.shown = lines
	if b.Len() > 0 {
		s.write(b.String())
	}
}

// copyText puts text into the terminal's clipboard (OSC 52).
func (s *screen) copyText(text string) {
	s.write("\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte(text)) + "\a")
}

// size returns the size of the terminal, or the usual one if the terminal does not know it.
func (s *screen) size() ResizeMsg {
	size, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return ResizeMsg{80, 24}
	}
	return ResizeMsg{int(size.Col), int(size.Row)}
}
