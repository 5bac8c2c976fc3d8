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

// Listeners are the listening sockets of one service. They are got and kept here alone, so that they can be handed to
// another process.
type Listeners struct {
	tcp []*net.TCPListener
}

// TakenError says that something else listens on an address.
type TakenError struct {
	Addr netip.AddrPort
}

// Error names the address.
func (e *TakenError) Error() string { return fmt.Sprintf("listen on %s: the address is taken", e.Addr) }

// Bind listens on every address, or on none: then the error is a *TakenError where the address is in use, and wraps
// the system's errno otherwise (os.ErrPermission for a port that needs root). An IPv6 loopback that this machine does
// not have is left out as long as another address is there.
func Bind(addrs []netip.AddrPort) (*Listeners, error) {
	ls := &Listeners{}
	var absent error
	for _, addr := range addrs {
		l, err := listen(addr)
		switch {
		case err == nil:
			ls.tcp = append(ls.tcp, l)
		case missing(addr, err):
			absent = err
		default:
			ls.Close()
			return nil, err
		}
	}
	if len(ls.tcp) == 0 && absent != nil {
		return nil, absent
	}
	return ls, nil
}

func listen(addr netip.AddrPort) (*net.TCPListener, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // the default of servers; the system's tables do not tell whose such a socket is
	l, err := config.Listen(context.Background(), network, addr.String())
	if err == nil {
		return l.(*net.TCPListener), nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &TakenError{addr}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno // the rest of it repeats the address
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

// missing reports whether the machine has no such address because it has no IPv6.
func missing(addr netip.AddrPort, err error) bool {
	return addr.Addr() == netip.IPv6Loopback() &&
		(errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) ||
			errors.Is(err, syscall.EPROTONOSUPPORT))
}

// FromFiles makes listeners of the sockets that another process handed over. The files stay the caller's to close.
func FromFiles(files []*os.File) (*Listeners, error) {
	ls := &Listeners{}
	for _, file := range files {
		l, err := net.FileListener(file)
		if err != nil {
			ls.Close()
			return nil, fmt.Errorf("take over %s: %w", file.Name(), err)
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			ls.Close()
			return nil, fmt.Errorf("take over %s: a %s listener", file.Name(), l.Addr().Network())
		}
		ls.tcp = append(ls.tcp, tcp)
	}
	return ls, nil
}

// Files returns copies of the sockets, to be handed to another process; the caller closes them. The port stays open
// while any copy is, and connections queue up in the kernel until somebody accepts them.
func (ls *Listeners) Files() ([]*os.File, error) {
	var files []*os.File
	for _, l := range ls.tcp {
		file, err := duplicate(l)
		if err != nil {
			for _, file := range files {
				file.Close()
			}
			return nil, fmt.Errorf("copy the listener of %s: %w", l.Addr(), err)
		}
		files = append(files, file)
	}
	return files, nil
}

// duplicate is TCPListener.File, except that handing the file to a child leaves the socket non-blocking: that mode
// belongs to all copies, and a relay that still accepts would never wake from a blocking one.
func duplicate(l *net.TCPListener) (*os.File, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	controlErr := raw.Control(func(fd uintptr) {
		var copied int
		if copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			file = os.NewFile(uintptr(copied), l.Addr().String())
		}
	})
	return file, errors.Join(controlErr, err)
}

// Addrs are the addresses that are listened on, with the ports that the kernel chose for port 0.
func (ls *Listeners) Addrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(ls.tcp))
	for i, l := range ls.tcp {
		addrs[i] = l.Addr().(*net.TCPAddr).AddrPort()
	}
	return addrs
}

// Close ends the listening. Connections that nobody accepted are reset by the kernel, unless a copy of the socket is
// open elsewhere.
func (ls *Listeners) Close() {
	for _, l := range ls.tcp {
		_ = l.Close()
	}
}
