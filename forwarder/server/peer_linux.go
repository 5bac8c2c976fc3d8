package server

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// foreignNamespaces returns the kinds of namespaces in which the process at the other end and this one differ, or may differ: "user", "mount",
// "PID".
func foreignNamespaces(conn *net.UnixConn) (kinds []string) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return []string{"PID"}
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if controlErr != nil || err != nil || peer.Pid == 0 { // 0: of a PID namespace that is not visible from here
		return []string{"PID"}
	}
	for _, namespace := range []struct{ kind, name string }{{"user", "user"}, {"mount", "mnt"}, {"PID", "pid"}} {
		ours, err := os.Stat("/proc/self/ns/" + namespace.name)
		theirs, peerErr := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", peer.Pid, namespace.name))
		if err != nil || peerErr != nil || !os.SameFile(ours, theirs) {
			kinds = append(kinds, namespace.kind)
		}
	}
	return kinds
}
