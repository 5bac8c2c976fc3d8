package ssh

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project"
)

// forwardingSettings are the settings of a server that can forbid a kind of forwarding (sshd_config(5), sshd(8)).
type forwardingSettings struct{ enabling, list, keyList string }

var (
	localForwarding  = forwardingSettings{enabling: "AllowTcpForwarding yes (or local)", list: "PermitOpen", keyList: "permitopen"}
	remoteForwarding = forwardingSettings{enabling: "AllowTcpForwarding yes (or remote)", list: "PermitListen", keyList: "permitlisten"}
)

// forwardingVerdict is what a server has said of the setting that forbids something.
type forwardingVerdict int

const (
	verdictUnknown  forwardingVerdict = iota
	verdictDisabled                   // all forwarding of the kind
	verdictUnlisted                   // what was asked for is not in a list
)

// keyOptions are the options of the key that logged in, as sshd tells them: those of its line in authorized_keys, or of its certificate.
type keyOptions struct {
	source string // as "/home/me/.ssh/authorized_keys:3"; empty: not known, as after a login by password
	names  []string
}

// keyOptionsPattern matches sshd's message about the options of a key (auth_log_authopts).
var keyOptionsPattern = project.LazyRegexp(`^(.+): key options:([a-z0-9 =-]*)$`)

// parseKeyOptions returns the options in a message of the server. It is not ok if the message is about something else.
func parseKeyOptions(text string) (options keyOptions, ok bool) {
	parts := keyOptionsPattern().FindStringSubmatch(text)
	if parts == nil {
		return keyOptions{}, false
	}
	return keyOptions{source: parts[1], names: strings.Fields(parts[2])}, true
}

// forbidsForwarding reports whether the key is known not to be allowed any forwarding.
func (o keyOptions) forbidsForwarding() bool {
	return o.source != "" && !slices.Contains(o.names, "port-forwarding")
}

// describeForbidden says what in authorized_keys, or in a certificate, forbids all forwarding.
func (o keyOptions) describeForbidden(server string) string {
	if !strings.Contains(o.source, ":") {
		return "the certificate of the key must have permit-port-forwarding (ssh-keygen -O)"
	}
	return fmt.Sprintf("%s on %s forbids forwarding for this key: remove no-port-forwarding, or add port-forwarding if it has restrict", o.source, server)
}

// describe says, for a hint, which settings of the server must allow what.
func (s forwardingSettings) describe(server, what string, key keyOptions, verdict forwardingVerdict) string {
	if key.forbidsForwarding() && verdict != verdictUnlisted {
		return key.describeForbidden(server)
	}
	config, ofKey := s.enabling+", no DisableForwarding, and "+what+" in "+s.list+" if that is set", s.keyList+", no-port-forwarding"
	switch verdict {
	case verdictDisabled:
		config, ofKey = s.enabling+", and no DisableForwarding", "no-port-forwarding"
	case verdictUnlisted:
		config, ofKey = what+" in "+s.list, s.keyList
	}
	hint := fmt.Sprintf("sshd_config of %s must allow it: %s", server, config)
	switch {
	case key.source == "":
		return hint + "; authorized_keys can restrict it too (" + ofKey + ")"
	case slices.Contains(key.names, s.keyList) && verdict != verdictDisabled:
		return fmt.Sprintf("%s; and so must %s in %s", hint, s.keyList, key.source)
	}
	return hint
}
