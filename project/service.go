package project

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// FindService returns the service of this name.
func (p *Project) FindService(name string) (Service, bool) {
	i := slices.IndexFunc(p.Services, func(s Service) bool { return s.Name == name })
	if i < 0 {
		return Service{}, false
	}
	return p.Services[i], true
}

// Addresses are the local addresses of the service: both loopback addresses, or only LocalAddress.
func (s Service) Addresses() []netip.AddrPort {
	port := uint16(s.LocalPort)
	if s.LocalAddress.IsValid() {
		return []netip.AddrPort{netip.AddrPortFrom(s.LocalAddress, port)}
	}
	return []netip.AddrPort{netip.AddrPortFrom(loopback4, port), netip.AddrPortFrom(loopback6, port)}
}

// ListenAddresses are the addresses on which the relay listens: none if the remote side listens.
func (s Service) ListenAddresses() []netip.AddrPort {
	if s.Reverse {
		return nil
	}
	return s.Addresses()
}

// Host is the address for clients, always numeric.
func (s Service) Host() string { return s.Addresses()[0].Addr().String() }

// Addr is host:port for clients, an IPv6 address in brackets.
func (s Service) Addr() string { return net.JoinHostPort(s.Host(), strconv.Itoa(s.LocalPort)) }

// EnvPrefix is the prefix of a service's variables: my-db exports MY_DB_HOST and MY_DB_PORT.
func EnvPrefix(service string) string {
	return strings.ToUpper(strings.ReplaceAll(service, "-", "_"))
}

// The values that start may have.
const (
	startAlways   = "always"
	startOnDemand = "on-demand"
)

// The values that health_check.type may have.
const (
	CheckTCP  = "tcp"
	CheckNone = "none"
)

// BridgeAuto is the bridge of the container engine that is found. bridgeNone is none, for a service that does not want the one of [defaults].
const (
	BridgeAuto = "auto"
	bridgeNone = "none"
)

// maxServiceName is the length of a service's name in bytes: the names of its log files, which are longer, fit into every file system.
const maxServiceName = 200

const (
	defaultLinger      = 10 * time.Second
	defaultIdleTimeout = 15 * time.Minute
)

// newService returns a service with the defaults.
func newService(name string) Service {
	return Service{
		Name:           name,
		Enabled:        true,
		ConnectTimeout: 30 * time.Second,
		HealthCheck: HealthCheck{
			Type: CheckTCP, Interval: 30 * time.Second, Timeout: 5 * time.Second,
			FailureThreshold: 3, SuccessThreshold: 1,
		},
		RestartPolicy: RestartPolicy{
			Enabled: true, InitialDelay: 250 * time.Millisecond, BackoffMultiplier: 2, MaxDelay: 15 * time.Second,
		},
	}
}

// setDerivedDefaults fills in what depends on other keys.
func (s *Service) setDerivedDefaults() {
	if s.OnDemand && s.IdleTimeout == 0 {
		s.IdleTimeout = defaultIdleTimeout
	}
}
