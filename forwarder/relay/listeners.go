package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Listeners are the listening sockets of one service, got and kept in one place so that they can be handed on.
type Listeners struct {
	list []*net.TCPListener
}

// TakenError says that something else listens on an address of the service.
type TakenError struct {
	Addr netip.AddrPort
}

func (e *TakenError) Error() string { return fmt.Sprintf("%s is taken", e.Addr) }

// Bind opens the listeners of one service, all of them or none. A machine without IPv6 is fine. The error is a
// *TakenError where something else has an address. Whoever gets the Listeners closes them, or gives them to New.
func Bind(addrs []netip.AddrPort) (*Listeners, error) {
	l := new(Listeners)
	for _, addr := range addrs {
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		switch {
		case err == nil:
			l.list = append(l.list, ln)
		case addr.Addr().Is6() && len(l.list) > 0 && noIPv6(err):
		case errors.Is(err, syscall.EADDRINUSE):
			l.Close()
			return nil, &TakenError{addr}
		default:
			l.Close()
			return nil, fmt.Errorf("listen on %s: %w", addr, cause(err))
		}
	}
	return l, nil
}

// noIPv6 reports whether an address cannot be had on this machine at all, as ::1 where IPv6 is switched off.
func noIPv6(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// cause leaves out what net says about the address: it is named already.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// Files are copies of the sockets, for another process. The caller closes them.
func (l *Listeners) Files() ([]*os.File, error) {
	var files []*os.File
	for _, ln := range l.list {
		file, err := ln.File()
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// Close closes every socket. It may be called more than once.
func (l *Listeners) Close() {
	for _, ln := range l.list {
		ln.Close()
	}
}
