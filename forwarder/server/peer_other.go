//go:build !linux

package server

import "net"

// isPeerInOurNamespaces returns true: other systems have no such namespaces.
func isPeerInOurNamespaces(*net.UnixConn) bool { return true }
