package server

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// isPeerInNamespaces reports whether the process at the other end is in these namespaces of this one, by their names in /proc/PID/ns.
func isPeerInNamespaces(conn *net.UnixConn, names ...string) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if controlErr != nil || err != nil || peer.Pid == 0 { // 0: of a PID namespace that is not visible from here
		return false
	}
	for _, namespace := range names {
		ours, err := os.Stat("/proc/self/ns/" + namespace)
		if err != nil {
			return false
		}
		theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", peer.Pid, namespace))
		if err != nil || !os.SameFile(ours, theirs) {
			return false
		}
	}
	return true
}
