//go:build !linux

package relay

import (
	"net"
	"time"
)

// connectionAge is not known here.
func connectionAge(*net.TCPConn) (age time.Duration, known bool) { return 0, false }

// queueLength is not known here.
func queueLength(*net.TCPListener) int { return 0 }
