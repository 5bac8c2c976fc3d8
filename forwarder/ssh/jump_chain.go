package ssh

import (
	"net"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project"
)

// jumpChain is what the logs of the ssh processes to jump hosts tell of them. The ssh to each of them starts that to the one before it, and all
// write to one log, but log in one after the other.
type jumpChain struct {
	lastHosts []string   // with which the ssh to the last of them is called, in the order of the connections; empty: not known
	target    string     // the address that the last of them connects to
	hosts     [][]string // those before the last, before the one before the last, and so on, with which their ssh are called
	targets   []string   // the address of the last, of the one before the last, and so on
	logins    int        // of them
	key       keyOptions // with which the last of them logged in that has
	isCounted bool       // the first of them has logged in by itself: one that uses a master of the user does not log in
}

// loginLine begins the line of a successful login.
const loginLine = "Authenticated to "

// missingIdentityPattern matches the path of a private key that a config file names.
var missingIdentityPattern = project.LazyRegexp(`^no such identity: (.+): No such file or directory$`)

// parseJumpLine parses a line of the log of the ssh processes to jump hosts. p.mu is held.
func (p *outputParser) parseJumpLine(line string) {
	c, keys := &p.jumps, &p.keys[sourceJump]
	if parts := missingIdentityPattern().FindStringSubmatch(line); parts != nil {
		keys.missing = parts[1]
	}
	if strings.HasPrefix(line, loginLine) { // what was said before does not explain the next one's failure
		c.logins++
		p.lines[sourceJump].Reset()
		*keys, c.key = keyTrouble{}, keyOptions{}
	}
	message, ok := strings.CutPrefix(line, "debug1: ")
	if !ok {
		return
	}
	keys.parseAuthentication(message)
	if text, isRemark := strings.CutPrefix(message, "Remote: "); isRemark {
		if options, isKey := parseKeyOptions(text); isKey {
			c.key = options
		}
		return
	}
	switch {
	case strings.HasPrefix(message, "Connecting to "):
		c.isCounted = true
	case strings.HasPrefix(message, implicitProxyCommand):
		c.hosts = append(c.hosts, jumpHostsOf(strings.TrimPrefix(message, implicitProxyCommand)))
	case strings.HasPrefix(message, executingProxy):
		c.targets = append(c.targets, forwardedAddr(message))
	}
}

// forwardedAddr returns the address in the message about the command of a connection; empty if it has none.
func forwardedAddr(message string) string {
	parts := forwardedAddrPattern().FindStringSubmatch(message)
	if parts == nil {
		return ""
	}
	return net.JoinHostPort(parts[1], parts[2])
}

// all returns the jump hosts in the order of the connections, also those that only the config of another one names.
func (c *jumpChain) all() []string {
	all := c.lastHosts
	for k, before := range c.hosts {
		if i := len(all) - 1 - k; i >= 0 {
			all = slices.Concat(before, all[i:])
		}
	}
	return all
}

// describe names all jump hosts, for messages: "jump host a", "jump hosts a, b"; empty: none is known.
func (c *jumpChain) describe() string {
	switch all := c.all(); len(all) {
	case 0:
		return ""
	case 1:
		return "jump host " + all[0]
	default:
		return "jump hosts " + strings.Join(all, ", ")
	}
}

// current names the jump host whose login is under way; all of them if that is not known.
func (c *jumpChain) current() string {
	if all := c.all(); c.isCounted && c.logins < len(all) {
		return "jump host " + all[c.logins]
	}
	return c.describe()
}

// lastConnection names the jump host that logged in last, and the address that it connects to; empty if that is not known.
func (c *jumpChain) lastConnection() (host, target string) {
	all := c.all()
	next := len(all) - c.logins // its position from the end, with the server as the first
	switch {
	case len(all) == 1:
		return c.describe(), c.target
	case !c.isCounted || c.logins == 0 || next < 0 || next > len(c.targets):
		return c.describe(), ""
	case next == 0:
		return "jump host " + all[c.logins-1], c.target
	}
	return "jump host " + all[c.logins-1], c.targets[next-1]
}

// jumpHostsOf returns the jump hosts of the command of an ssh to the last one.
func jumpHostsOf(command string) []string {
	words := strings.Fields(command)
	last := words[len(words)-1]
	if i := slices.Index(words, "-p"); i >= 0 && i+1 < len(words) {
		last += ":" + words[i+1]
	}
	var hosts []string
	if i := slices.Index(words, "-J"); i >= 0 && i+1 < len(words) {
		hosts = strings.Split(words[i+1], ",")
	}
	return append(hosts, last)
}

// keyTrouble is what ssh's log says of keys that could not be used for a login.
type keyTrouble struct {
	missing  string // the last key of a config file or an option that does not exist
	unusable string // a key that the server accepts and ssh could not use
	inAgent  string // the last key that was offered and that the agent has
}

// offeredKeyPattern matches the path of a key that is offered to the server: "Offering public key: /home/me/.ssh/id_ed25519 ED25519 SHA256:… agent".
var offeredKeyPattern = project.LazyRegexp(`^Offering public key: (.+) [A-Z0-9-]+ [A-Z0-9]+:\S+`)

// parseAuthentication parses a message of level DEBUG1 about a key that is offered to the server, or that it accepts.
func (k *keyTrouble) parseAuthentication(message string) {
	switch {
	case strings.HasPrefix(message, "Offering public key: "):
		if parts := offeredKeyPattern().FindStringSubmatch(message); parts != nil && strings.HasSuffix(message, " agent") {
			k.inAgent = parts[1]
		}
	case strings.HasPrefix(message, "Server accepts key: "):
		k.unusable = ""
		if parts := acceptedKeyPattern().FindStringSubmatch(message); parts != nil && !strings.Contains(parts[2], " agent") {
			k.unusable = parts[1]
		}
	case strings.HasPrefix(message, "Authentications that can continue"):
		k.unusable = "" // ssh used it, but the server wants more
	}
}
