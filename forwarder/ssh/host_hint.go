package ssh

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// unresolvedHostPattern matches ssh's message about a host name without an address.
var unresolvedHostPattern = project.LazyRegexp(`Could not resolve hostname (\S+): `)

// addUserHints adds hints at what each user has under another name: hosts of the ssh config, and key files.
func (d *destination) addUserHints(f *forwarder.Failure) {
	if match := unresolvedHostPattern().FindStringSubmatch(f.Reason); match != nil && f.Hint == "" {
		f.Hint = d.unresolvedHostHint(match[1])
	}
	if _, err := os.Stat(d.keyFile); d.keyFile != "" && errors.Is(err, fs.ErrNotExist) && strings.Contains(f.Reason, permissionDenied) {
		f.Hint += "; " + project.HintLocal("key file")
	}
	if _, token, ok := strings.Cut(f.Reason, unknownToken); ok {
		if where := d.findOptionWith(token); where != "" {
			f.Reason = where + ": " + f.Reason
		}
		f.Hint = fmt.Sprintf(`correct that option; "%s" shows it`, d.tryCommand())
	}
	if f.Hint == "" {
		f.Hint = networkHint(f.Reason)
	}
}

// unresolvedHint is the next step for a host that no config file has under a similar name.
const unresolvedHint = "correct the host, or connect to the network or VPN that knows it"

// networkHint is the next step after ssh did not reach a host; empty if it met something else.
func networkHint(reason string) string {
	switch {
	case unresolvedHostPattern().MatchString(reason):
		return unresolvedHint
	case !strings.Contains(reason, "ssh: connect to host"):
		return ""
	case strings.Contains(reason, "Connection refused"):
		return "start sshd on the host, or correct host and port"
	}
	return "check the network, the VPN and the firewalls on the way to the host"
}

// findOptionWith returns the option whose value contains a text, as part of a message: "option NAME", or "FILE line N: NAME"; empty if there is
// none.
func (d *destination) findOptionWith(text string) string {
	for i, arg := range d.baseArgv {
		if name, value, _ := strings.Cut(arg, "="); i > 0 && d.baseArgv[i-1] == "-o" && strings.Contains(value, text) {
			return "option " + name
		}
	}
	for _, path := range d.configFiles() {
		for number, line := range readLines(path) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && strings.Contains(line, text) {
				return fmt.Sprintf("%s line %d: %s", path, number+1, optionName(line))
			}
		}
	}
	return ""
}

// unresolvedHostHint names the host of the ssh config that is probably meant by a name of the service's config; empty if there is none.
func (d *destination) unresolvedHostHint(name string) string {
	if !slices.ContainsFunc(d.namedHosts(), func(host string) bool { return strings.EqualFold(host, name) }) {
		return "" // the HostName of a known host
	}
	aliases := hostAliases(d.configFiles())
	nearest := nearestHost(name, aliases)
	if nearest == "" || slices.Contains(aliases, name) {
		return ""
	}
	return fmt.Sprintf("did you mean %q, a Host of your ssh config? %s", nearest, project.HintLocal("host"))
}

// nearestHost returns the host that name is probably a misspelling of; empty if there is none. The common domain of two hosts does not make
// them similar.
func nearestHost(name string, hosts []string) string {
	label, domain, hasDomain := strings.Cut(name, ".")
	var labels, others []string
	for _, host := range hosts {
		if hostLabel, hostDomain, _ := strings.Cut(host, "."); hasDomain && strings.EqualFold(hostDomain, domain) {
			labels = append(labels, hostLabel)
		} else {
			others = append(others, host)
		}
	}
	if nearest := project.NearestName(label, labels); nearest != "" {
		return nearest + "." + domain
	}
	return project.NearestName(name, others)
}

// namedHosts are the ssh host and the jump hosts as the service's config names them, without user and port.
func (d *destination) namedHosts() []string {
	hosts := []string{d.baseArgv[len(d.baseArgv)-1]}
	if i := slices.Index(d.baseArgv, "-J"); i >= 0 {
		hosts = append(hosts, strings.Split(d.baseArgv[i+1], ",")...)
	}
	for i, host := range hosts {
		host = strings.TrimPrefix(host, "ssh://")
		host = host[strings.LastIndexByte(host, '@')+1:]
		hosts[i], _, _ = strings.Cut(host, ":")
	}
	return hosts
}

// configFiles are the config files that ssh reads, and those that they include.
func (d *destination) configFiles() []string {
	files := d.rootConfigFiles()
	for _, file := range files {
		files = append(files, includedFiles(file)...)
	}
	return files
}

// hostAliases are the names without wildcards that the Host lines of config files have.
func hostAliases(paths []string) []string {
	var aliases []string
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			words := strings.FieldsFunc(lines.Text(), func(r rune) bool { return unicode.IsSpace(r) || r == '=' || r == '"' })
			if len(words) > 0 && strings.EqualFold(words[0], "Host") {
				aliases = append(aliases, slices.DeleteFunc(words[1:], func(word string) bool { return strings.ContainsAny(word, "*?!") })...)
			}
		}
		file.Close()
	}
	return aliases
}
