package lockstate

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/shellhook"
)

// Fingerprint identifies the current state, prompt and election files without reading them. It can be
// compared with ==.
//
// A supervisor takes it at intervals, and it therefore uses system calls directly: code that runs again and again keeps its pages in
// memory. With package os, these were 0.8 MB for each supervisor.
type Fingerprint struct {
	state, prompt, election, down FileID
}

// Fingerprint returns the fingerprint of the files as they are now. It costs four stat calls.
func (d *Dir) Fingerprint() Fingerprint {
	_ = d.beforeCall(CallIdentify, "")
	paths := d.joinPaths()
	return Fingerprint{Identify(paths.state), Identify(paths.prompt), Identify(paths.election), Identify(paths.down)}
}

// FingerprintedPaths returns the paths of the files whose changes change the Fingerprint.
func (d *Dir) FingerprintedPaths() []string {
	paths := d.joinPaths()
	return []string{paths.state, paths.prompt, paths.election, paths.down}
}

func (d *Dir) joinPaths() *fingerprintedPaths {
	d.joinFingerprinted.Do(func() {
		d.fingerprinted = fingerprintedPaths{d.path(stateName), d.path(shellhook.PromptFile), d.path(electionName), d.downPath(false)}
	})
	return &d.fingerprinted
}

// fingerprintedPaths are the paths of the files of a Fingerprint. They are joined once: to join them each time would keep the constant
// names in memory, two pieces of 64 kB of the executable.
type fingerprintedPaths struct {
	state, prompt, election, down string
}

// IsComplete reports whether the state and the prompt's line exist. If one was deleted, the next Update that changes something writes it
// again.
func (f Fingerprint) IsComplete() bool { return f.state != (FileID{}) && f.prompt.isReadable() }

// FileID distinguishes a file from another one at the same path, and from the same file before it was written to. The zero FileID means
// that there is no file.
type FileID struct {
	dev, inode uint64
	size       int64
	modified   unix.Timespec
	mode       uint64 // of 64 bits: a struct without padding is compared without a function of its own
}

// unknownMode is the mode of a file that cannot be stat'ed.
const unknownMode = ^uint64(0)

// Identify returns the FileID of the file at a path.
func Identify(path string) FileID {
	var stat unix.Stat_t
	switch err := unix.Stat(path, &stat); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return FileID{}
	case err != nil:
		return FileID{mode: unknownMode}
	}
	//nolint:unconvert // the types differ between systems
	return FileID{uint64(stat.Dev), uint64(stat.Ino), int64(stat.Size), stat.Mtim, uint64(stat.Mode)}
}

// isReadable reports whether it is a regular file, or may be one.
func (f FileID) isReadable() bool { return f.mode == unknownMode || f.mode&unix.S_IFMT == unix.S_IFREG }
