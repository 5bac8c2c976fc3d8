package lockstate

import "os"

// IsWhole reports whether the files are there that processes find each other by. What was deleted is written again by the next
// Update that changes something.
func (d *Dir) IsWhole() bool {
	for _, name := range []string{"state.json", "prompt"} {
		if _, err := os.Stat(d.file(name)); isAbsent(err) {
			return false
		}
	}
	return true
}
