package project

import (
	"net/netip"
	"slices"
)

func (p *parser) readMetricsPort(n *node) {
	port, err := readPort(n)
	if err != nil && !n.hasError {
		p.reportValue(n, "%v", err)
		return
	}
	p.project.MetricsPort = port
}

// checkMetricsPort reports a service that listens on the address of the metrics.
func (p *parser) checkMetricsPort() {
	if p.project.MetricsPort == 0 {
		return
	}
	address := netip.AddrPortFrom(loopback4, uint16(p.project.MetricsPort))
	for _, s := range p.project.Services {
		if slices.Contains(s.ListenAddresses(), address) {
			p.reportValue(p.root.member("metrics_port"), "%s is already used by service %q; use another port", address, s.Name)
			return
		}
	}
}
