package compose

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
)

// publishedPort is a port of a container that compose publishes on this machine.
type publishedPort struct {
	host      string // the address; empty: all of this machine
	published string // a number or a reference; empty: docker chooses it
	target    int    // 0: unknown
	isUDP     bool
	line      int
}

// maxRange is the number of ports of a range that become services.
const maxRange = 10

// readPort reads an entry of ports, in its short or its long form (https://docs.docker.com/reference/compose-file/services/#ports).
// isTooMany is set for a range that was cut.
func readPort(n yamlfile.Node) (ports []publishedPort, isTooMany bool) {
	if n.IsMapping() {
		return readLongPort(n)
	}
	text, protocol, _ := strings.Cut(n.Text(), "/")
	parts := splitOutsideReferences(text)
	p := publishedPort{isUDP: strings.EqualFold(protocol, "udp"), line: n.Line()}
	target := parts[len(parts)-1]
	if len(parts) > 1 {
		p.published = parts[len(parts)-2]
	}
	if len(parts) > 2 {
		p.host = withDefaults(strings.Trim(strings.Join(parts[:len(parts)-2], ":"), "[]"))
	}
	return p.expand(target)
}

func readLongPort(n yamlfile.Node) ([]publishedPort, bool) {
	p := publishedPort{
		host: withDefaults(n.Member("host_ip").Text()), published: n.Member("published").Text(), isUDP: strings.EqualFold(n.Member("protocol").Text(), "udp"), line: n.Line(),
	}
	return p.expand(n.Member("target").Text())
}

// expand returns the ports of a range, or the one port.
func (p publishedPort) expand(target string) (ports []publishedPort, isTooMany bool) {
	first, last, isRange := portRange(p.published)
	targetFirst, _, isTargetRange := portRange(withDefaults(target))
	if !isRange {
		p.target = targetFirst
		if p.published == "0" {
			p.published = ""
		}
		return []publishedPort{p}, false
	}
	for port := first; port <= last; port++ {
		if len(ports) == maxRange {
			return ports, true
		}
		single := p
		single.published, single.target = strconv.Itoa(port), targetFirst
		if isTargetRange {
			single.target = targetFirst + port - first
		}
		ports = append(ports, single)
	}
	return ports, false
}

// portRange parses "8000-8005", or a single port.
func portRange(text string) (first, last int, isRange bool) {
	from, to, isRange := strings.Cut(text, "-")
	first, err := strconv.Atoi(from)
	if err != nil {
		return 0, 0, false
	}
	if !isRange {
		return first, first, false
	}
	last, err = strconv.Atoi(to)
	return first, last, err == nil && last >= first
}

// splitOutsideReferences splits text at its colons, but for those in ${…} and in [IPv6].
func splitOutsideReferences(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i, r := range text {
		switch r {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ':':
			if depth == 0 {
				parts = append(parts, text[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, text[start:])
}

// remoteHost returns the address at which this machine reaches the port.
func (p publishedPort) remoteHost() string {
	address, err := netip.ParseAddr(p.host)
	if err != nil || address.IsUnspecified() {
		return "127.0.0.1"
	}
	return address.String()
}
