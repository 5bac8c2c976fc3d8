package netmon

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// multicastGroups selects the kernel's notifications (rtnetlink(7)).
const multicastGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// eventSource is a netlink socket, and the state of the network as far as its messages have told it.
type eventSource struct {
	file      *os.File
	linkFlags map[int32]uint32 // by interface index: IFF_UP and IFF_RUNNING
	addrs     map[string]bool  // by interface index and address
}

func openSource() (*eventSource, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: multicastGroups}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &eventSource{file: os.NewFile(uintptr(fd), "netlink"), linkFlags: map[int32]uint32{}, addrs: map[string]bool{}}, nil
}

func (s *eventSource) close() error { return s.file.Close() }

// readEvents calls onChange for every change until the socket is closed.
func (s *eventSource) readEvents(onChange func()) error {
	buf := make([]byte, 16<<10) // far larger than any message
	for {
		n, err := s.file.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS): // messages were lost
			onChange()
			continue
		case err != nil:
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			onChange() // it may have been a change
			continue
		}
		for _, m := range messages {
			if s.isChange(m) {
				onChange()
			}
		}
	}
}

// isChange reports whether a message is about a change: the kernel also reports renewals that change nothing.
func (s *eventSource) isChange(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return s.updateLink(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return s.updateAddress(m)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0 // rtm_dst_len: 0 is a default route
	}
	return false
}

// updateLink records the flags of an interface and reports whether they changed.
func (s *eventSource) updateLink(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return true
	}
	info := (*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0]))
	if m.Header.Type == unix.RTM_DELLINK {
		delete(s.linkFlags, info.Index)
		return true
	}
	flags := info.Flags & (unix.IFF_UP | unix.IFF_RUNNING)
	oldFlags, isKnown := s.linkFlags[info.Index]
	s.linkFlags[info.Index] = flags
	return !isKnown || flags != oldFlags
}

// updateAddress records an address and reports whether it was added or removed. The kernel reports a renewed one as new.
func (s *eventSource) updateAddress(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofIfAddrmsg {
		return true
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return true
	}
	keyBytes := binary.NativeEndian.AppendUint32(nil, (*unix.IfAddrmsg)(unsafe.Pointer(&m.Data[0])).Index)
	for _, a := range attributes {
		if a.Attr.Type == unix.IFA_ADDRESS {
			keyBytes = append(keyBytes, a.Value...)
		}
	}
	key := string(keyBytes)
	isKnown := s.addrs[key]
	if m.Header.Type == unix.RTM_DELADDR {
		delete(s.addrs, key)
		return true
	}
	s.addrs[key] = true
	return !isKnown
}
