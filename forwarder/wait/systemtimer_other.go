//go:build !linux

package wait

import (
	"errors"
	"time"
)

// systemTimer does not exist on this system.
type systemTimer struct{}

func (*systemTimer) open() error { return errors.ErrUnsupported }

func (*systemTimer) close() {}

func (*systemTimer) read(func()) {}

func (*systemTimer) set(time.Duration) {}
