package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listeners are the listening sockets of one service. They can be handed to another process.
type Listeners struct {
	tcp []*net.TCPListener
}

// AddrInUseError is BindListeners' error if another socket listens on an address.
type AddrInUseError struct {
	Addr netip.AddrPort
}

// Error implements error.
func (e *AddrInUseError) Error() string {
	return fmt.Sprintf("listen on %s: address already in use", e.Addr)
}

// BindListeners listens on all addresses or on none. The error is an *AddrInUseError if an address is in use, else it wraps
// the system's errno (os.ErrPermission for a port that needs root). On a machine without IPv6, ::1 is left out if another
// address is given.
func BindListeners(addrs []netip.AddrPort) (*Listeners, error) {
	ls := &Listeners{}
	var noIPv6Err error
	for _, addr := range addrs {
		l, err := listenTCP(addr)
		switch {
		case err == nil:
			ls.tcp = append(ls.tcp, l)
		case isIPv6Unavailable(addr, err):
			noIPv6Err = err
		default:
			ls.Close()
			return nil, err
		}
	}
	if len(ls.tcp) == 0 && noIPv6Err != nil {
		return nil, noIPv6Err
	}
	return ls, nil
}

func listenTCP(addr netip.AddrPort) (*net.TCPListener, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	config := listenConfig()
	config.SetMultipathTCP(false)                                         // Go's default for servers; the system's socket tables do not show who owns an MPTCP socket
	l, err := config.Listen(context.Background(), network, addr.String()) // the context only limits name lookups, and addr is numeric
	if err == nil {
		return l.(*net.TCPListener), nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &AddrInUseError{addr}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno // the rest of the error repeats the address
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

// isIPv6Unavailable reports whether err means that the machine has no IPv6.
func isIPv6Unavailable(addr netip.AddrPort, err error) bool {
	return addr.Addr() == netip.IPv6Loopback() &&
		(errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) ||
			errors.Is(err, syscall.EPROTONOSUPPORT))
}

// InheritListeners makes listeners from sockets of another process. The caller closes the files.
func InheritListeners(files []*os.File) (*Listeners, error) {
	ls := &Listeners{}
	for _, file := range files {
		l, err := net.FileListener(file)
		if err != nil {
			ls.Close()
			return nil, fmt.Errorf("inherit the listener of %s: %w", file.Name(), err)
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			ls.Close()
			return nil, fmt.Errorf("inherit the listener of %s: it is of network %s, not tcp", file.Name(), l.Addr().Network())
		}
		ls.tcp = append(ls.tcp, tcp)
	}
	return ls, nil
}

// Files returns duplicates of the sockets for another process; the caller closes them. The port stays open while any
// duplicate is open, and connections queue up in the kernel until a process accepts them.
func (ls *Listeners) Files() ([]*os.File, error) {
	var files []*os.File
	for _, l := range ls.tcp {
		file, err := duplicateSocket(l)
		if err != nil {
			for _, file := range files {
				file.Close()
			}
			return nil, fmt.Errorf("duplicate the listener of %s: %w", l.Addr(), err)
		}
		files = append(files, file)
	}
	return files, nil
}

// duplicateSocket is TCPListener.File, but a later call of Fd, as os/exec makes it, leaves the socket non-blocking. That
// mode is shared by all duplicates, and an accept loop would never return from a blocking accept.
func duplicateSocket(l *net.TCPListener) (*os.File, error) {
	rawConn, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	controlErr := rawConn.Control(func(fd uintptr) {
		var duplicate int
		if duplicate, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			file = os.NewFile(uintptr(duplicate), l.Addr().String())
		}
	})
	return file, errors.Join(controlErr, err)
}

// Addrs returns the addresses of the listeners, with the port that the kernel chose for port 0.
func (ls *Listeners) Addrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(ls.tcp))
	for i, l := range ls.tcp {
		addrs[i] = l.Addr().(*net.TCPAddr).AddrPort()
	}
	return addrs
}

// Close closes the listeners. The kernel resets connections that were not accepted, unless another process has a duplicate
// of the socket.
func (ls *Listeners) Close() {
	for _, l := range ls.tcp {
		_ = l.Close()
	}
}
