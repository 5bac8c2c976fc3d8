package lockstate

import (
	"os"
	"strings"
)

// That the user stopped a project must also be remembered when the disk is full. A file that was made in advance holds
// the boot id and is renamed, which needs no space: "down" says stopped, "down.unset" says not. Where one of them holds
// this boot's id, it says better than the state file, which may not have been written since.

func (d *Dir) downPath(isDown bool) string {
	if isDown {
		return d.file("down")
	}
	return d.file("down.unset")
}

// mergeDown sets st.Down from the down file. A state written by an older version, which knows no such file, is left.
func (d *Dir) mergeDown(st *State) {
	if !st.DownFile {
		return
	}
	for _, isDown := range []bool{true, false} {
		if d.hasDownFile(isDown) {
			st.Down = isDown
			return
		}
	}
}

func (d *Dir) hasDownFile(isDown bool) bool {
	data, err := readFile(d.downPath(isDown))
	return err == nil && strings.TrimSpace(string(data)) == bootID()
}

// storeDown brings the down file to what the state says, and makes one that is missing. It returns whether there is one.
func (d *Dir) storeDown(isDown bool) bool {
	if d.hasDownFile(isDown) {
		if isDown {
			return true
		}
		// "down" counts before "down.unset", so that nothing but the rename decides.
		if !d.hasDownFile(true) {
			return true
		}
	}
	if d.hasDownFile(!isDown) && os.Rename(d.downPath(!isDown), d.downPath(isDown)) == nil {
		return true
	}
	if replaceFile(d.downPath(isDown), []byte(bootID()+"\n")) != nil {
		return false
	}
	os.Remove(d.downPath(!isDown))
	return true
}
