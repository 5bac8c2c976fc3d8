package paste

import (
	"net"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project/draft"
)

// isHostPort reports whether a word is HOST:PORT.
func isHostPort(word string) bool {
	host, port, err := net.SplitHostPort(word)
	if err != nil || host == "" || strings.Contains(host, "://") {
		return false
	}
	_, err = parsePort(port)
	return err == nil && checkHost(host) == nil
}

// readTCP adds the service of HOST:PORT [LOCAL].
func (r *reader) readTCP(words []string) error {
	const form = "write tcp HOST:PORT [LOCAL], for example: tcp db.internal:5432"
	switch {
	case len(words) == 0:
		return &Error{Word: "tcp", Reason: "the address is missing after it", Advice: form}
	case !isHostPort(words[0]):
		return &Error{Word: words[0], Reason: "not an address", Advice: form}
	case len(words) > 2:
		return &Error{Word: words[2], Reason: "one address and one local port are expected", Advice: form}
	}
	host, remote, _ := net.SplitHostPort(words[0])
	port, _ := parsePort(remote)
	d := newTCPService(nameOfHost(host, port, host), host, port)
	if len(words) == 2 {
		var err error
		if d.localPort, err = parsePort(words[1]); err != nil && words[1] != "0" && words[1] != "auto" {
			return &Error{Word: words[1], Reason: "the local port is not 1-65535", Advice: form}
		}
	}
	r.pending = append(r.pending, d)
	return nil
}

// newTCPService returns a service that leads to a host, which is a text of a config.
func newTCPService(base, host string, port int) pendingService {
	d := pendingService{technology: "tcp", base: base, localPort: port, remotePort: strconv.Itoa(port)}
	d.connection.Set("remote_host", draft.Template(host))
	return d
}

// readSocat adds the service of socat TCP-LISTEN:PORT,… TCP:HOST:PORT (socat(1)).
func (r *reader) readSocat(words []string) error {
	const advice = "only this form is understood: socat TCP-LISTEN:5432,fork TCP:db.internal:5432"
	var addresses []string
	for len(words) > 0 {
		count, err := r.takeFlag(words)
		switch {
		case err != nil:
			return err
		case count == 0 && strings.HasPrefix(words[0], "--"):
			return r.unknownFlagError(words[0], "socat", nil)
		case count == 0 && words[0][0] != '-':
			addresses = append(addresses, words[0])
		}
		words = words[max(count, 1):]
	}
	if len(addresses) != 2 {
		return &Error{Word: "socat", Reason: "two addresses are expected after it", Advice: advice}
	}
	listenType, listen, _ := strings.Cut(addresses[0], ":")
	switch strings.ToUpper(listenType) {
	case "TCP-LISTEN", "TCP4-LISTEN", "TCP6-LISTEN", "TCP-L", "TCP4-L", "TCP6-L":
	default:
		return &Error{Word: addresses[0], Reason: "not a TCP listener of socat", Advice: advice}
	}
	connectType, target, _ := strings.Cut(addresses[1], ":")
	target, _, _ = strings.Cut(target, ",")
	switch strings.ToUpper(connectType) {
	case "TCP", "TCP4", "TCP6", "TCP-CONNECT", "TCP4-CONNECT", "TCP6-CONNECT":
	default:
		return &Error{Word: addresses[1], Reason: "not a TCP destination of socat", Advice: advice}
	}
	options := strings.Split(listen, ",")
	var bind []string
	for _, option := range options[1:] {
		name, value, _ := strings.Cut(option, "=")
		if name == "bind" {
			bind = append(bind, value)
		}
	}
	localAddress, err := r.localAddress(bind)
	if err != nil {
		return err
	}
	if err := r.readTCP([]string{target, options[0]}); err != nil {
		return err
	}
	r.pending[len(r.pending)-1].localAddress = localAddress
	return nil
}
