package project

import (
	"net/netip"
	"slices"
)

func (p *parsing) metricsPort(n *node) {
	port, err := readPort(n)
	if err != nil && !n.bad {
		p.value(n, "%v", err)
		return
	}
	p.project.MetricsPort = port
}

// metricsClash reports a service that listens where the metrics are to be.
func (p *parsing) metricsClash() {
	if p.project.MetricsPort == 0 {
		return
	}
	address := netip.AddrPortFrom(loopback4, uint16(p.project.MetricsPort))
	for _, s := range p.project.Services {
		if slices.Contains(s.Listens(), address) {
			p.value(p.root.member("metrics_port"), "%s is already used by service %q; use another port", address, s.Name)
			return
		}
	}
}
