package project

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// The readers of single keys.

func readPort(n *node) (int, error) {
	i, err := n.asInteger()
	if err == nil && (i < 1 || i > 65535) {
		err = fmt.Errorf("invalid port %d: must be 1-65535", i)
	}
	return int(i), err
}

func readLocalPort(s *Service, n *node) (err error) {
	if n.kind == stringKind && n.text == "auto" {
		s.AutoPort = true
		return nil
	}
	switch n.kind {
	case integerKind:
	case stringKind:
		return fmt.Errorf(`invalid port %s: must be "auto" or 1-65535 without quotes`, n.quoted())
	default:
		return n.typeError(`a port number (1-65535) or "auto"`)
	}
	s.LocalPort, err = readPort(n)
	return err
}

// portNamePattern matches the name of a port in Kubernetes (IANA_SVC_NAME, RFC 6335, 5.1).
var portNamePattern = LazyRegexp(`^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$`)

// remotePortReader returns a reader of remote_port. Only the given technologies support port names.
func remotePortReader(naming []string) reader {
	return func(s *Service, n *node) error { return readPortOrName(s, n, naming) }
}

func readPortOrName(s *Service, n *node, naming []string) error {
	if n.kind == integerKind {
		port, err := readPort(n)
		s.RemotePort = strconv.Itoa(port)
		return err
	}
	value, err := n.asString()
	if err != nil {
		return n.typeError("a port number (1-65535) or a port name")
	}
	s.RemotePort = value
	if port, err := strconv.Atoi(value); err == nil {
		if port < 1 || port > 65535 || strconv.Itoa(port) != value {
			return fmt.Errorf("invalid port %s: must be 1-65535", n.quoted())
		}
		return nil
	}
	switch {
	case len(naming) == 0:
		return fmt.Errorf("invalid port %s: must be 1-65535", n.quoted())
	case !slices.Contains(naming, s.Technology) && s.Technology != "":
		return fmt.Errorf("invalid port %s: must be 1-65535 (only %s supports port names)", n.quoted(), joinAlternatives(naming))
	case !portNamePattern().MatchString(value) || !strings.ContainsFunc(value, isLetter):
		return fmt.Errorf("invalid port %s: must be 1-65535 or a name of lowercase letters, digits and dashes", n.quoted())
	}
	return nil
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' }

func readLocalAddress(s *Service, n *node) error {
	value, err := n.asString()
	if err != nil {
		return err
	}
	address, err := netip.ParseAddr(value)
	address = address.Unmap()
	if err != nil || address.Zone() != "" || !address.IsLoopback() {
		return fmt.Errorf("invalid address %s: must be a loopback address such as 127.0.0.2", n.quoted())
	}
	s.LocalAddress = address
	return nil
}

// regexpReader returns a reader of a regular expression; the value is its text.
func regexpReader(target func(*Service) *string) reader {
	return func(s *Service, n *node) error {
		value, err := n.asString()
		if err != nil {
			return err
		}
		if _, err := regexp.Compile(value); err != nil {
			if wrong, ok := errors.AsType[*syntax.Error](err); ok {
				return fmt.Errorf("invalid regular expression %s: %s", n.quoted(), wrong.Code)
			}
			return err
		}
		*target(s) = value
		return nil
	}
}

func readStart(s *Service, n *node) error {
	var start string
	err := choiceReader(func(*Service) *string { return &start }, []string{startAlways, startOnDemand})(s, n)
	s.OnDemand = start == startOnDemand
	return err
}

func readMultiplier(s *Service, n *node) error {
	f, err := n.asFloat()
	if err == nil && !(f >= 1 && f <= 1000) {
		err = errors.New("must be between 1 and 1000")
	}
	if err == nil {
		s.RestartPolicy.BackoffMultiplier = f
	}
	return err
}
