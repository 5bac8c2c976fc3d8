package top

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// keyboard reads the keys of a terminal.
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

// start makes the terminal deliver single keys, and calls send with each as a KeyMsg or PasteMsg, and with hangupMsg when the terminal is
// gone. send must return when its context ends.
func (k *keyboard) start(ctx context.Context, send func(context.Context, any)) error {
	stopReader, wake, err := os.Pipe()
	if err == nil {
		err = k.setKeyMode()
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	k.cancel = func() {
		cancel()
		wake.Close()
	}
	k.endedCh = make(chan struct{})
	go func() {
		defer close(k.endedCh)
		defer stopReader.Close()
		readKeys(int(k.tty.Fd()), int(stopReader.Fd()), func(msg any) { send(ctx, msg) })
	}()
	return nil
}

// stop ends the reader and restores the terminal's modes. It may be called again.
func (k *keyboard) stop() {
	if k.cancel != nil {
		k.cancel()
		<-k.endedCh
		k.cancel = nil
	}
	_ = unix.IoctlSetTermios(int(k.tty.Fd()), setTermios, &k.saved) // fails only if the terminal is gone
}

// setKeyMode has the terminal deliver each key as it is pressed, also those that send signals, without echo.
func (k *keyboard) setKeyMode() error {
	modes := k.saved
	modes.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	modes.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	modes.Cc[unix.VMIN], modes.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(int(k.tty.Fd()), setTermios, &modes)
}

// hangupMsg says that the terminal is gone.
type hangupMsg struct{}

// escapeTimeout is how long the rest of a key's sequence may take to arrive: after it, ESC was the key of this name.
const escapeTimeout = 50 * time.Millisecond

// readKeys reads keys until the other end of stopReader is closed.
func readKeys(tty, stopReader int, send func(any)) {
	var pending []byte
	buffer := make([]byte, 4096)
	for {
		timeout := -1
		if len(pending) > 0 {
			timeout = int(escapeTimeout.Milliseconds())
		}
		fds := []unix.PollFd{{Fd: int32(tty), Events: unix.POLLIN}, {Fd: int32(stopReader), Events: unix.POLLIN}}
		ready, err := unix.Poll(fds, timeout)
		switch {
		case err == unix.EINTR: //nolint:errorlint // it is an Errno
			continue
		case err == nil && fds[1].Revents != 0:
			return
		case err == nil && ready > 0:
			n, readErr := unix.Read(tty, buffer)
			if readErr == unix.EINTR || readErr == unix.EAGAIN { //nolint:errorlint // it is an Errno
				continue
			}
			if err = readErr; err == nil && n == 0 {
				err = unix.EIO
			}
			pending = append(pending, buffer[:max(n, 0)]...)
		}
		if err != nil {
			send(hangupMsg{})
			return
		}
		messages, rest := decodeKeys(pending, ready == 0)
		pending = rest
		for _, message := range messages {
			send(message)
		}
	}
}
