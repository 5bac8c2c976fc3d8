package lockstate

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Election is the lock that a supervisor holds for as long as it lives; the kernel frees it however it dies. It belongs
// to the open file, so that a copy of the descriptor in another process keeps it: whoever is to be the next supervisor
// inherits it. (That is why it is not gofrs/flock's, which unlocks when it closes.)
type Election struct{ file *os.File }

// Elect makes the calling process the project's supervisor, or returns nil if there is one already.
func (tx *Tx) Elect() (*Election, error) {
	file, err := os.OpenFile(tx.dir.file("election"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the election lock: %w", err)
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err == nil:
		return &Election{file}, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		file.Close()
		return nil, nil
	}
	file.Close()
	return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
}

// Inherit is the election that another process won and handed over.
func Inherit(file *os.File) *Election { return &Election{file} }

// Files is a copy of the lock's open file, which the caller closes, to be handed to another process.
func (e *Election) Files() ([]*os.File, error) {
	copied, err := unix.FcntlInt(e.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("copy the election lock: %w", err)
	}
	return []*os.File{os.NewFile(uintptr(copied), e.file.Name())}, nil
}

// Resign frees the lock, whoever has copies of it.
func (e *Election) Resign() error {
	defer e.file.Close()
	if err := unix.Flock(int(e.file.Fd()), unix.LOCK_UN); err != nil {
		return fmt.Errorf("unlock %s: %w", e.file.Name(), err)
	}
	return nil
}

// Pass lets go of the lock without freeing it: another process has a copy and is the supervisor from now on.
func (e *Election) Pass() error { return e.file.Close() }
