package watch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// maxReadSize is the number of bytes read of a file. Package project accepts no larger file; a change beyond it is
// detected by size and time.
const maxReadSize = 1 << 20

// content is what a reader of the path gets. Files are always read, not compared by their time: a file that is written twice within a tick
// of the kernel's clock has the same time and may have the same size.
type content struct {
	state string // why it cannot be read; of a file that is not read completely, its size and time
	sum   [sha256.Size]byte
	// stamp changes when the file is touched, or removed and restored.
	stamp stamp
}

type stamp struct {
	fileID
	size                int64
	modTime, changeTime time.Time
}

// differs reports whether a reader would get something else.
func (c content) differs(o content) bool { return c.state != o.state || c.sum != o.sum }

func readContents(paths []string) map[string]content {
	contents := make(map[string]content, len(paths))
	for _, path := range paths {
		c, err := readContent(path)
		if err != nil {
			c = content{state: describeReadError(err)}
		}
		contents[path] = c
	}
	return contents
}

// describeReadError returns the same text for the same cause, whichever call failed.
func describeReadError(err error) string {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fs.ErrNotExist.Error()
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

func readContent(path string) (content, error) {
	// Opening a named pipe would block, and opening a device may have an effect.
	info, err := os.Stat(path)
	if err != nil {
		return content{}, err
	}
	if !info.Mode().IsRegular() {
		return content{state: info.Mode().Type().String()}, nil
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return content{}, err
	}
	defer file.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(file, maxReadSize))
	c := content{stamp: stampOf(info), sum: [sha256.Size]byte(sum.Sum(nil))}
	if n == maxReadSize {
		c.state = fmt.Sprint(info.Size(), info.ModTime())
	}
	return c, err
}

func stampOf(info fs.FileInfo) stamp {
	stat := info.Sys().(*syscall.Stat_t)
	return stamp{
		fileID: fileID{dev: uint64(stat.Dev), ino: stat.Ino},
		size:   info.Size(), modTime: info.ModTime(), changeTime: changeTime(stat),
	}
}
