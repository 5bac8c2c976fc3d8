// Package holder finds the process that listens on a port, to name it in an error message and to tell a child's listener from another
// program's, and those that are connected to one.
package holder

import "fmt"

// Holder is a process that listens on a port, or is connected to one.
type Holder struct {
	PID  int    // 0 if the process is another user's and the system does not show it
	Name string // the program's short name; empty if PID is 0
	UID  int
}

// String names the process: by program and pid, or by its user if the system does not show more.
func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("a process of uid %d", h.UID)
	}
	return fmt.Sprintf("%s (pid %d)", h.Name, h.PID)
}
