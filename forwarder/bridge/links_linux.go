package bridge

import (
	"encoding/binary"
	"net"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// containerKinds are the kinds of interfaces by which containers and virtual machines are connected to a bridge. A network card has no kind; a
// bond, a VLAN or a tunnel leads to other machines.
var containerKinds = []string{"veth", "tun", "dummy"}

// netlinkLink is what rtnetlink(7) tells of an interface.
type netlinkLink struct {
	kind   string
	master int // index of the bridge that it is a port of; 0: none
}

// readLinks asks the kernel for the interfaces. /sys/class/net is not used: it shows those of the namespace in which it was mounted.
func readLinks() ([]link, error) {
	data, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return nil, err
	}
	byIndex := make(map[int]netlinkLink)
	for _, m := range messages {
		if m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= unix.SizeofIfInfomsg {
			byIndex[int((*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0])).Index)] = parseLink(m)
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	links := make([]link, 0, len(interfaces))
	for _, i := range interfaces {
		l := link{name: i.Name, isBridge: byIndex[i.Index].kind == "bridge", addrs: addressesOf(i)}
		for _, port := range interfaces {
			if n := byIndex[port.Index]; n.master == i.Index && !slices.Contains(containerKinds, n.kind) {
				l.uplink = port.Name
			}
		}
		links = append(links, l)
	}
	return links, nil
}

func parseLink(m syscall.NetlinkMessage) (l netlinkLink) {
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return l
	}
	for _, a := range attributes {
		switch {
		case a.Attr.Type == unix.IFLA_MASTER && len(a.Value) >= 4:
			l.master = int(binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type&^unix.NLA_F_NESTED == unix.IFLA_LINKINFO:
			l.kind = parseKind(a.Value)
		}
	}
	return l
}

// parseKind returns IFLA_INFO_KIND of the nested attributes: a length and a type of two bytes each, and the value, aligned to four.
func parseKind(data []byte) string {
	for len(data) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(data))
		if length < unix.SizeofNlAttr || length > len(data) {
			return ""
		}
		if binary.NativeEndian.Uint16(data[2:]) == unix.IFLA_INFO_KIND {
			return unix.ByteSliceToString(data[unix.SizeofNlAttr:length])
		}
		data = data[min(len(data), (length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return ""
}
