package lockstate

import (
	"os"
	"syscall"
	"time"
)

// Fingerprint tells one content of the files that processes find each other by from another, without reading them. It can be
// compared.
type Fingerprint struct {
	state  fileFingerprint
	prompt bool // the prompt's line is there, and is a file
}

type fileFingerprint struct {
	inode    uint64
	size     int64
	modified time.Time
}

// Fingerprint is that of the files as they are now. It costs two stats.
func (d *Dir) Fingerprint() Fingerprint {
	var f Fingerprint
	if info, err := os.Stat(d.file("state.json")); err == nil {
		f.state.size, f.state.modified = info.Size(), info.ModTime()
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			f.state.inode = stat.Ino
		}
	}
	info, err := os.Stat(d.file("prompt"))
	f.prompt = err == nil && info.Mode().IsRegular() || err != nil && !isAbsent(err)
	return f
}

// IsWhole reports whether both files are there. What was deleted is written again by the next Update that changes something.
func (f Fingerprint) IsWhole() bool { return f.prompt && f.state != (fileFingerprint{}) }
