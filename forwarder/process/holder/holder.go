// Package holder finds out who listens on a port: for a message that names the program in the way, and to know a
// child's listener from a stranger's.
package holder

// Holder is a process that listens on a port.
type Holder struct {
	PID  int    // 0 where the process is another user's and the system does not tell
	Name string // the program's short name; empty where PID is 0
	UID  int
}
