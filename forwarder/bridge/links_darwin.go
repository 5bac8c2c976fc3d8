package bridge

import (
	"net"
	"strings"
)

// readLinks returns the interfaces. The bridges that macOS makes for virtual machines are bridge100 and following; bridge0 joins network
// cards (Thunderbolt Bridge).
func readLinks() ([]link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	links := make([]link, 0, len(interfaces))
	for _, i := range interfaces {
		number, isBridge := strings.CutPrefix(i.Name, "bridge")
		links = append(links, link{name: i.Name, isBridge: isBridge && len(number) >= 3, addrs: addressesOf(i)})
	}
	return links, nil
}
