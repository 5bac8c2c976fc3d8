package project

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

var hostPortPattern = LazyRegexp(`^\[?.*\]?:[0-9]+$`)

// ValidateHost returns the Validate of a key whose value is a host name or an IP address alone. portKey is the key for the port that people
// append to it.
func ValidateHost(portKey string) func(value any) error {
	return func(value any) error {
		host := value.(string)
		_, err := netip.ParseAddr(host)
		switch {
		case err == nil:
			return nil
		case strings.Contains(host, "://"), strings.Contains(host, "/"):
			return errors.New("must be a host name or an IP address, without a scheme or a path" + hostAdvice(host, portKey))
		case hostPortPattern().MatchString(host):
			advice := hostAdvice(host, portKey)
			if advice == "" {
				advice = fmt.Sprintf("; set the port in %q", portKey)
			}
			return errors.New("must be a host name or an IP address without a port" + advice)
		case strings.Contains(host, "@"):
			return errors.New("must be a host name or an IP address, without a user")
		case strings.HasSuffix(host, ":"):
			return errors.New(`must be a host name or an IP address, without ":" at its end`)
		case strings.HasPrefix(host, "["):
			return errors.New("must be an IPv6 address without brackets")
		}
		return nil
	}
}
