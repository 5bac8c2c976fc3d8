//go:build !linux

package server

import "net"

// isPeerInNamespaces returns true: other systems have no such namespaces.
func isPeerInNamespaces(*net.UnixConn, ...string) bool { return true }
