//go:build !linux

package server

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

type namespaceKind struct{}

var networkNamespace namespaceKind

// foreignNamespaces returns nil: other systems have no such namespaces.
func foreignNamespaces(*net.UnixConn, ...namespaceKind) []string { return nil }

// peerUID returns the user of the process at the other end.
func peerUID(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Xucred
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED) })
	if err = errors.Join(controlErr, err); err != nil {
		return 0, err
	}
	return int(peer.Uid), nil
}
