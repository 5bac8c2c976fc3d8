//go:build !linux

package relay

import (
	"net"
	"time"
)

// connectionAge is known on Linux only.
func connectionAge(*net.TCPConn) (age time.Duration, known bool) { return 0, false }

// queueLength is known on Linux only.
func queueLength(*net.TCPListener) int { return 0 }
