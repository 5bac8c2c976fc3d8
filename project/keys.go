package project

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// The readers of the keys that no general one fits.

func readPort(n *node) (int, error) {
	i, err := n.integer()
	if err == nil && (i < 1 || i > 65535) {
		err = fmt.Errorf("%d is no port: 1-65535", i)
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
		return fmt.Errorf(`%s is neither "auto" nor a port, 1-65535 and without quotes`, n.quoted())
	default:
		return n.want(`a port, 1-65535, or "auto"`)
	}
	s.LocalPort, err = readPort(n)
	return err
}

func readSSHPort(s *Service, n *node) (err error) {
	s.Connection.Port, err = readPort(n)
	return err
}

func readMultiplex(s *Service, n *node) error {
	var multiplex bool
	err := boolean(func(*Service) *bool { return &multiplex })(s, n)
	s.Connection.Alone = err == nil && !multiplex
	return err
}

// portName is the name of a port as Kubernetes has it.
var portName = lazily(`^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$`)

func readRemotePort(s *Service, n *node) error {
	if n.kind == integerKind {
		port, err := readPort(n)
		s.RemotePort = strconv.Itoa(port)
		return err
	}
	value, err := n.string()
	if err != nil {
		return n.want("a port, 1-65535, or a port's name")
	}
	s.RemotePort = value
	if port, err := strconv.Atoi(value); err == nil {
		if port < 1 || port > 65535 || strconv.Itoa(port) != value {
			return fmt.Errorf("%s is no port: 1-65535", n.quoted())
		}
		return nil
	}
	switch {
	case s.Technology != Kubectl && s.Technology != "":
		return fmt.Errorf("%s is no port: 1-65535; only kubectl knows ports by name", n.quoted())
	case !portName().MatchString(value) || !strings.ContainsFunc(value, isLetter):
		return fmt.Errorf("%s is no port: 1-65535, or a name of small letters, digits and dashes", n.quoted())
	}
	return nil
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' }

func readLocalAddress(s *Service, n *node) error {
	value, err := n.string()
	if err != nil {
		return err
	}
	address, err := netip.ParseAddr(value)
	address = address.Unmap()
	if err != nil || address.Zone() != "" || !address.IsLoopback() {
		return fmt.Errorf("%s is no loopback address, as 127.0.0.2 is", n.quoted())
	}
	s.LocalAddress = address
	return nil
}

func readCommand(s *Service, n *node) error {
	argv, err := n.arguments()
	holds := func(item *node) bool { return item.bad || strings.Contains(item.text, "{port}") }
	if err == nil && !slices.ContainsFunc(n.items, holds) {
		return errors.New("one of the arguments must hold {port}, the port that the command is to listen on")
	}
	s.Command = argv
	return err
}

func readLogin(s *Service, n *node) (err error) {
	s.Login, err = n.arguments()
	return err
}

// expression reads a regular expression, as text.
func expression(at func(*Service) *string) reader {
	return func(s *Service, n *node) error {
		value, err := n.string()
		if err != nil {
			return err
		}
		if _, err := regexp.Compile(value); err != nil {
			if wrong, ok := errors.AsType[*syntax.Error](err); ok {
				return fmt.Errorf("%s is no regular expression: %s", n.quoted(), wrong.Code)
			}
			return err
		}
		*at(s) = value
		return nil
	}
}

func readStart(s *Service, n *node) error {
	var start string
	err := choice(func(*Service) *string { return &start }, []string{startAlways, startOnDemand})(s, n)
	s.OnDemand = start == startOnDemand
	return err
}

func readMultiplier(s *Service, n *node) error {
	f, err := n.float()
	if err == nil && !(f >= 1 && f <= 1000) {
		err = errors.New("must be between 1 and 1000")
	}
	if err == nil {
		s.RestartPolicy.BackoffMultiplier = f
	}
	return err
}

var sshOption = lazily(`^[A-Za-z][A-Za-z0-9]*$`)

// readOptions reads ssh's own options, which are put over those already there.
func readOptions(s *Service, n *node) error {
	if n.kind != tableKind {
		return n.want("a table")
	}
	options := map[string]string{}
	maps.Copy(options, s.Connection.Options)
	var bad badItems
	for _, name := range n.names {
		value, err := optionValue(n.members[name])
		if !sshOption().MatchString(name) {
			err = errors.New("is no name of an ssh option")
		}
		bad = bad.with(n.members[name], err)
		options[name] = value
	}
	s.Connection.Options = options
	return bad.err()
}

func optionValue(n *node) (string, error) {
	switch n.kind {
	case integerKind:
		i, err := n.integer()
		return strconv.FormatInt(i, 10), err
	case boolKind:
		if n.text == "true" {
			return "yes", nil
		}
		return "no", nil
	}
	value, err := n.string()
	if strings.ContainsAny(value, "\r\n") {
		err = errors.New("must be one line")
	}
	return value, err
}
