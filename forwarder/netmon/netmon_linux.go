package netmon

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// groups are what the kernel is asked to tell of (rtnetlink(7)).
const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// source is a netlink socket, and what is known of the network from what came from it.
type source struct {
	file  *os.File
	links map[int32]uint32 // the flags of interfaces that count
	addrs map[string]bool
}

func open() (*source, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &source{file: os.NewFile(uintptr(fd), "netlink"), links: map[int32]uint32{}, addrs: map[string]bool{}}, nil
}

func (s *source) close() error { return s.file.Close() }

// read calls changed for every change until the socket is closed.
func (s *source) read(changed func()) error {
	buf := make([]byte, 16<<10) // far more than one message is long
	for {
		n, err := s.file.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS): // there was more than the socket holds
			changed()
			continue
		case err != nil:
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			changed() // whatever it was
			continue
		}
		for _, m := range messages {
			if s.matters(m) {
				changed()
			}
		}
	}
}

// matters reports whether a message is of a change: the kernel also tells of what was renewed and stays as it was.
func (s *source) matters(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return s.link(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return s.address(m)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0 // the length of its destination: a default route's is none
	}
	return false
}

// link compares what counts of an interface.
func (s *source) link(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return true
	}
	info := (*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0]))
	if m.Header.Type == unix.RTM_DELLINK {
		delete(s.links, info.Index)
		return true
	}
	flags := info.Flags & (unix.IFF_UP | unix.IFF_RUNNING)
	before, known := s.links[info.Index]
	s.links[info.Index] = flags
	return !known || flags != before
}

// address compares the addresses of interfaces. One that is renewed is told of as a new one.
func (s *source) address(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofIfAddrmsg {
		return true
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return true
	}
	which := binary.NativeEndian.AppendUint32(nil, (*unix.IfAddrmsg)(unsafe.Pointer(&m.Data[0])).Index)
	for _, a := range attributes {
		if a.Attr.Type == unix.IFA_ADDRESS {
			which = append(which, a.Value...)
		}
	}
	key := string(which)
	before := s.addrs[key]
	if m.Header.Type == unix.RTM_DELADDR {
		delete(s.addrs, key)
		return true
	}
	s.addrs[key] = true
	return !before
}
