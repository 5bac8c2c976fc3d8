// Package bridge finds the address of a network bridge of this machine, where its containers can connect to it.
//
// Whatever listens there is open to every container and user of the machine, and to machines of its network that route the bridge's subnet
// through it, unless a firewall refuses them. So it is used only if the allowed config names it, and never on a bridge that other machines are
// connected to.
package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Auto is the name that stands for the first of autoNames that exists.
const Auto = "auto"

// autoNames are the bridges that container engines make: docker, podman (netavark, CNI), nerdctl.
var autoNames = []string{"docker0", "podman0", "cni-podman0", "nerdctl0"}

// Error is why a bridge has no address to listen on, and what to do.
type Error struct{ Reason, Hint string }

// Error implements error.
func (e *Error) Error() string { return e.Reason }

// listHint says how to find the names of the bridges.
const listHint = `"ip -brief address show type bridge" lists the bridges of this machine; the address is looked for again when the network changes`

// link is a network interface.
type link struct {
	name     string
	isBridge bool
	uplink   string // a port of the bridge that leads to other machines, or may; empty: there is none
	addrs    []netip.Addr
}

// Find returns the address of a bridge, which is given by Auto, its name or the address itself. A bridge that other machines are connected to
// is refused: they could connect too. The error is an *Error.
func Find(bridge string) (netip.Addr, error) {
	links, err := readLinks()
	if err != nil {
		return netip.Addr{}, &Error{Reason: "cannot list the network interfaces: " + err.Error()}
	}
	return choose(links, bridge)
}

func choose(links []link, bridge string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(bridge); err == nil {
		i := slices.IndexFunc(links, func(l link) bool { return slices.Contains(l.addrs, addr) })
		if i < 0 {
			return netip.Addr{}, &Error{"no network interface has the address " + bridge, listHint}
		}
		if err := links[i].check(); err != nil {
			return netip.Addr{}, err
		}
		return addr, nil
	}
	names := []string{bridge}
	if bridge == Auto {
		names = autoNames
	}
	for _, name := range names {
		if i := slices.IndexFunc(links, func(l link) bool { return l.name == name }); i >= 0 {
			return links[i].address()
		}
	}
	if bridge == Auto {
		return netip.Addr{}, &Error{"no bridge of docker, podman or nerdctl was found", "start the container engine, or name the bridge in the config; " + listHint}
	}
	return netip.Addr{}, &Error{fmt.Sprintf("there is no network interface %q", bridge), listHint}
}

// check returns an *Error unless the interface is a bridge that leads to containers and virtual machines only.
func (l link) check() error {
	switch {
	case !l.isBridge:
		return &Error{fmt.Sprintf("%q is not a bridge: other machines may be able to connect to its address", l.name), listHint}
	case l.uplink != "":
		return &Error{fmt.Sprintf("the bridge %q has the port %q: other machines may be able to connect through it", l.name, l.uplink), listHint}
	}
	return nil
}

// address returns the bridge's first private address; one of IPv4 if it has one.
func (l link) address() (netip.Addr, error) {
	if err := l.check(); err != nil {
		return netip.Addr{}, err
	}
	for _, isWanted := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
		for _, addr := range l.addrs {
			if isWanted(addr) && addr.IsPrivate() {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, &Error{fmt.Sprintf("the bridge %q has no private address (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7)", l.name), listHint}
}

// addressesOf returns the addresses of an interface; none if it has vanished.
func addressesOf(i net.Interface) (addrs []netip.Addr) {
	found, _ := i.Addrs()
	for _, addr := range found {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			addrs = append(addrs, prefix.Addr().Unmap())
		}
	}
	return addrs
}
