package lockstate

import (
	"os"
	"strings"
)

// That the user stopped a project must be recorded even when the disk is full. A file that was created in advance holds
// the boot id and is renamed, which needs no space: "down" means stopped, "down.unset" not stopped. If one of them holds
// the id of this boot, it takes precedence over the state file, which may not have been written since.

func (d *Dir) downPath(isDown bool) string {
	if isDown {
		return d.path("down")
	}
	return d.path("down.unset")
}

// readDownFile reads what the down file says; ok is false if there is none of this boot.
func (d *Dir) readDownFile() (isDown, ok bool) {
	if d.hasDownFile(true) {
		return true, true
	}
	return false, d.hasDownFile(false)
}

func (d *Dir) hasDownFile(isDown bool) bool {
	data, err := readFile(d.downPath(isDown))
	if err != nil {
		return false
	}
	id, err := bootID()
	return err == nil && strings.TrimSpace(string(data)) == id
}

// applyDownFile sets st.Down from the down file, and returns whether the file exists and agrees. A state written by an
// older version, which has no such file, is left unchanged.
func (d *Dir) applyDownFile(st *State) bool {
	isDown, ok := d.readDownFile()
	if ok && st.DownFile {
		if isDown && !st.Down { // the stop could not be written, nor that it ended what start had asked for
			st.Release(StartLease, Process{})
		}
		st.Down = isDown
	}
	return ok && st.Down == isDown
}

// writeDownFile renames or creates the down file to match the state. It returns whether that succeeded.
func (d *Dir) writeDownFile(isDown bool) bool {
	if d.hasDownFile(!isDown) && os.Rename(d.downPath(!isDown), d.downPath(isDown)) == nil {
		return true
	}
	id, err := bootID()
	if err != nil || replaceFile(d.downPath(isDown), []byte(id+"\n")) != nil {
		return false
	}
	os.Remove(d.downPath(!isDown))
	return true
}
