package top

import (
	"context"
	"fmt"
	"os"

	tea "charm.land/bubbletea/v2"
	uv "github.com/charmbracelet/ultraviolet"
	"golang.org/x/sys/unix"
)

// keyboard reads the keys of a terminal. Bubble Tea is not given the input: it would ask the terminal for its capabilities and for kitty's
// keyboard protocol, and an answer that comes after the program has ended is typed into the shell.
type keyboard struct {
	tty   *os.File
	saved unix.Termios // the terminal's modes outside of this program

	cancel  context.CancelFunc // ends the reader; nil while none runs
	endedCh chan struct{}      // closed when the reader has ended
}

// newKeyboard remembers the terminal's modes.
func newKeyboard(tty *os.File) (*keyboard, error) {
	saved, err := unix.IoctlGetTermios(int(tty.Fd()), getTermios)
	if err != nil {
		return nil, fmt.Errorf("read the modes of the terminal: %w", err)
	}
	return &keyboard{tty: tty, saved: *saved}, nil
}

// start makes the terminal deliver single keys, and sends each to send.
func (k *keyboard) start(send func(tea.Msg)) error {
	if err := k.setKeyMode(); err != nil {
		return err
	}
	input, err := uv.NewCancelReader(k.tty)
	if err != nil {
		k.restoreModes()
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, readErrCh := make(chan uv.Event), make(chan error, 1)
	k.endedCh = make(chan struct{})
	k.cancel = func() {
		input.Cancel()
		cancel()
	}
	go func() {
		defer close(events)
		readErrCh <- uv.NewTerminalReader(input, os.Getenv("TERM")).StreamEvents(ctx, events)
	}()
	go func(endedCh chan struct{}) {
		defer close(endedCh)
		for event := range events {
			if ctx.Err() == nil {
				send(event)
			}
		}
		input.Close()
		if err := <-readErrCh; err != nil || ctx.Err() == nil { // the terminal is gone
			send(tea.QuitMsg{})
		}
	}(k.endedCh)
	return nil
}

// stop ends the reader and restores the terminal's modes. It may be called again.
func (k *keyboard) stop() {
	if k.cancel != nil {
		k.cancel()
		<-k.endedCh
		k.cancel = nil
	}
	k.restoreModes()
}

// setKeyMode has the terminal deliver each key as it is pressed, also those that send signals, without echo. What is written stays as it is in the
// modes of a shell: a line feed also returns to the first column.
func (k *keyboard) setKeyMode() error {
	modes := k.saved
	modes.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	modes.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	modes.Oflag |= unix.OPOST | unix.ONLCR
	modes.Cc[unix.VMIN], modes.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(int(k.tty.Fd()), setTermios, &modes)
}

// restoreModes fails only if the terminal is gone.
func (k *keyboard) restoreModes() {
	_ = unix.IoctlSetTermios(int(k.tty.Fd()), setTermios, &k.saved)
}
