package lockstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/shellhook"
)

// updateLine rewrites the line that prompts compare with the one they saw: a number, and the pid and start time of the
// supervisor that should be running (0 0: none). It is written after the state, so that a prompt that sees
// a number finds at least that state. If it cannot be written, prompts see the old line and do nothing; every later
// Update finds the old line and writes the new one. Not only the number is compared: after an older copy of the state was restored, a line
// with the same number may be that of an earlier supervisor.
func (d *Dir) updateLine(st State, isBumped bool) {
	var p Process
	if st.Supervisor != nil {
		p = st.Supervisor.Process
	}
	line := fmt.Sprintf("%d %d %d", st.Line, p.PID, p.Start)
	if !isBumped && (st.Line == 0 || line == d.PromptLine()) {
		return
	}
	path := d.path(shellhook.PromptFile)
	if err := d.replaceFile(shellhook.PromptFile, []byte(line+"\n")); err != nil {
		if kind := kindOf(path); kind != "" {
			d.warn((&NotRegularError{Path: path, Kind: kind}).Error())
		}
		return
	}
	replaceLink(d.path(shellhook.PromptLink), fmt.Sprintf("%d %d %d", st.Line, p.PID, p.Start))
}

// replaceLink makes path a symbolic link to target. Only a shell that cannot read a file needs it: if it cannot be made, that shell
// finds the line at its next cd.
func replaceLink(path, target string) {
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".new-link-%d", os.Getpid()))
	_ = os.Remove(temp) // of a process that was killed
	if os.Symlink(target, temp) == nil && os.Rename(temp, path) != nil {
		_ = os.Remove(temp)
	}
}

// lineNumber returns the number in the line; false if there is no line, or an invalid one.
func (d *Dir) lineNumber() (uint64, bool) {
	first, _, _ := strings.Cut(d.PromptLine(), " ")
	number, err := strconv.ParseUint(first, 10, 64)
	return number, err == nil
}

// PromptLine returns the current line; empty if there is none.
func (d *Dir) PromptLine() string {
	data, _ := readFile(d.path(shellhook.PromptFile))
	return strings.TrimSuffix(string(data), "\n")
}

// stampFiles are the files whose modification time prompts compare, by the name of their stamp.
var stampFiles = map[string]string{
	shellhook.ConfigStampFile: ".localport.toml",
	shellhook.LocalStampFile:  ".localport.local.toml",
	shellhook.EnvStampFile:    ".env",
}

// Stamp records the modification times of the root's three files, and reports whether any of them had changed
// since the last stamp. Each stamp has the time of its file, so that a shell can detect an older file as well as a newer one.
//
// A stamp that cannot be written is not fatal: the file stays newer or older than its stamp, so that each shell
// runs export itself. Therefore it does not count as changed, and the other stamps are written.
func (d *Dir) Stamp(root string) (changed bool, err error) {
	var failures []error
	for stamp, name := range stampFiles {
		isChanged, err := writeStamp(d.path(stamp), filepath.Join(root, name))
		if err != nil {
			failures = append(failures, stampError(d.path(stamp), err))
			continue
		}
		changed = changed || isChanged
	}
	return changed, errors.Join(failures...)
}

func stampError(stamp string, err error) error {
	if kind := kindOf(stamp); kind != "" {
		return &NotRegularError{Path: stamp, Kind: kind}
	}
	return newWriteError(stamp, err)
}

func writeStamp(stamp, path string) (changed bool, err error) {
	was, statErr := os.Stat(stamp)
	now, err := os.Stat(path)
	if err != nil {
		err := os.Remove(stamp)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return true, err
	}
	if statErr == nil && was.ModTime().Equal(now.ModTime()) {
		return false, nil
	}
	// A new file gets its time before it is renamed, so that no prompt sees a stamp with another time.
	temp, err := os.CreateTemp(filepath.Dir(stamp), ".stamp-*")
	if err != nil {
		return true, err
	}
	defer os.Remove(temp.Name())
	if err := temp.Close(); err != nil {
		return true, err
	}
	if err := os.Chtimes(temp.Name(), now.ModTime(), now.ModTime()); err != nil {
		return true, err
	}
	return true, os.Rename(temp.Name(), stamp)
}
