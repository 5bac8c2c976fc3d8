package paste

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// localAddress returns the local_address for the addresses on which a program would listen; empty: the default, which is both loopback
// addresses.
func (r *reader) localAddress(addresses []string) (string, error) {
	var chosen []netip.Addr
	for _, address := range addresses {
		text := strings.Trim(strings.TrimSpace(address), "[]")
		if text == "localhost" {
			text = "127.0.0.1"
		}
		addr, err := netip.ParseAddr(text)
		switch {
		case err != nil && text != "*" && text != "":
			return "", &Error{Word: address, Reason: "not an address of this machine's loopback", Advice: "leave it out, or write an address such as 127.0.0.2"}
		case err != nil || !addr.IsLoopback() || addr.Zone() != "":
			return "", &Error{
				Word: address, Reason: "other machines could connect; LocalPort listens on this machine's loopback only",
				Advice: `leave the address out; for containers of this machine set bridge = "auto" in the config`,
			}
		}
		chosen = append(chosen, addr.Unmap())
	}
	loopback4, loopback6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	if len(chosen) == 0 || slices.Contains(chosen, loopback4) {
		return "", nil
	}
	if len(chosen) > 1 {
		r.note("%s has no effect: a service listens on one address of its own", chosen[1])
	}
	if chosen[0] == loopback6 {
		return "::1", nil
	}
	return chosen[0].String(), nil
}

// path returns the path of a file as it is written in the config.
func (r *reader) path(text string) string {
	path := text
	if r.options.Dir != "" && text != "" && !filepath.IsAbs(text) && text[0] != '~' && !strings.HasPrefix(text, "${") {
		path = filepath.Join(draft.EscapeTemplate(r.options.Dir), text)
	}
	if rest, isBelow := strings.CutPrefix(path, draft.EscapeTemplate(r.options.Home)+"/"); isBelow && r.options.Home != "" {
		return "~/" + rest
	}
	return path
}

// checkWord rejects what a config rejects: an empty text, or one that a program would take for a flag, and blanks in a name.
func checkWord(text string, isName bool) error {
	switch {
	case text == "":
		return &Error{Word: text, Reason: "an empty word"}
	case strings.HasPrefix(text, "-"):
		return &Error{Word: text, Reason: `must not begin with "-"`}
	case strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }), isName && strings.ContainsFunc(text, isBlank):
		return &Error{Word: text, Reason: "must not contain blanks or control characters", Advice: "check the quotes of the command line"}
	}
	return nil
}

func isBlank(r rune) bool { return r <= 0x20 || r == 0x7f }

// checkHost rejects what is no host name or address of a config.
func checkHost(host string) error {
	if err := checkWord(host, true); err != nil {
		return err
	}
	if err := project.ValidateHost("remote_port")(host); err != nil {
		return &Error{Word: host, Reason: err.Error()}
	}
	return nil
}
