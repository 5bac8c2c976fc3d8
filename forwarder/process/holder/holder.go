// Package holder finds the process that listens on a port: to name it in an error message, and to tell a child's listener from
// another program's.
package holder

// Holder is a process that listens on a port.
type Holder struct {
	PID  int    // 0 if the process is another user's and the system does not show it
	Name string // the program's short name; empty if PID is 0
	UID  int
}
