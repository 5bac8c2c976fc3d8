package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// namespaceKinds are the kinds that foreignNamespaces always compares, and networkNamespace is another one.
var (
	namespaceKinds   = []namespaceKind{{"user", "user"}, {"mount", "mnt"}, {"PID", "pid"}}
	networkNamespace = namespaceKind{"network", "net"}
)

// namespaceKind is a kind of namespace, with the name of its file in /proc/PID/ns.
type namespaceKind struct{ kind, name string }

func peerCredentials(conn *net.UnixConn) (peer *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return peer, errors.Join(controlErr, err)
}

// peerUID returns the user of the process at the other end.
func peerUID(conn *net.UnixConn) (int, error) {
	peer, err := peerCredentials(conn)
	if err != nil {
		return 0, err
	}
	return int(peer.Uid), nil
}

// foreignNamespaces returns the kinds of namespaces in which the process at the other end and this one differ, or may differ: "user", "mount",
// "PID", and those of also.
func foreignNamespaces(conn *net.UnixConn, also ...namespaceKind) (kinds []string) {
	peer, err := peerCredentials(conn)
	if err != nil || peer.Pid == 0 { // 0: of a PID namespace that is not visible from here
		return []string{"PID"}
	}
	for _, namespace := range slices.Concat(namespaceKinds, also) {
		ours, err := os.Stat("/proc/self/ns/" + namespace.name)
		theirs, peerErr := os.Stat(fmt.Sprintf("/proc/%d/ns/%s", peer.Pid, namespace.name))
		if err != nil || peerErr != nil || !os.SameFile(ours, theirs) {
			kinds = append(kinds, namespace.kind)
		}
	}
	return kinds
}
