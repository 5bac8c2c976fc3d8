package lockstate

import (
	"os"
	"path/filepath"
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

// readDownFile returns what the down file says; ok is false if there is none of this boot. After an error there may be one.
func (d *Dir) readDownFile() (isDown, ok bool, err error) {
	if ok, err = d.hasDownFile(true); ok || err != nil {
		return true, ok, err
	}
	ok, err = d.hasDownFile(false)
	return false, ok, err
}

func (d *Dir) hasDownFile(isDown bool) (bool, error) {
	data, err := readIfRegular(d.downPath(isDown))
	if data == nil || err != nil {
		return false, err
	}
	id, err := bootID()
	return err == nil && strings.TrimSpace(string(data)) == id, nil
}

// applyDownFile sets st.Down from the down file, and returns whether the file exists and agrees. A state written by an older version, which
// has no such file, is not changed. After an error st is unchanged.
func (d *Dir) applyDownFile(st *State) (bool, error) {
	isDown, exists, err := d.readDownFile()
	if err != nil {
		return false, err
	}
	if exists && st.DownFile {
		if isDown && !st.Down { // the stop could not be written to the state, and neither could the release of the start lease
			st.RemoveLease(StartLease, Process{})
		}
		st.Down = isDown
	}
	return exists && st.Down == isDown, nil
}

// writeDownFile renames or creates the down file to match the state. It returns whether that succeeded.
func (d *Dir) writeDownFile(isDown bool) bool {
	name := filepath.Base(d.downPath(isDown))
	if hasOther, _ := d.hasDownFile(!isDown); hasOther && d.beforeCall(CallRename, name) == nil && os.Rename(d.downPath(!isDown), d.downPath(isDown)) == nil {
		return true
	}
	id, err := bootID()
	if err != nil || d.replaceFile(name, []byte(id+"\n")) != nil {
		return false
	}
	os.Remove(d.downPath(!isDown))
	return true
}
