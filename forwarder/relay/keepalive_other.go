//go:build !linux

package relay

import "net"

// listenConfig makes listeners whose accepted connections send keepalives: package net sets the options on each connection.
func listenConfig() net.ListenConfig { return net.ListenConfig{} }
