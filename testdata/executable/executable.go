// Package executable writes programs that a test runs.
package executable

import (
	"os"
	"syscall"
)

// WriteFile writes a program, or a copy of one, like os.WriteFile. A process that another goroutine starts meanwhile would inherit the open file until it
// has executed its own program, and the kernel runs no file that somebody can write (ETXTBSY, execve(2)): no process is started
// while the file is open.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, data, mode)
}
