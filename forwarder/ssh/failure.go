package ssh

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// ssh's messages about a host key that differs from the known one.
var (
	changedHostPattern  = project.LazyRegexp(`Host key for (\S+) has changed`)
	offendingKeyPattern = project.LazyRegexp(`^Offending .*key in (.+):\d+$`)
)

// configErrorPattern matches ssh's message about a line of a config file: the file, the line's number and what is wrong with it.
var configErrorPattern = project.LazyRegexp(`^(.+?):? line (\d+): (.+)$`)

// Texts of ssh.
const (
	permissionDenied  = "Permission denied ("
	hostKeyUnverified = "Host key verification failed."
	hostKeyChanged    = "REMOTE HOST IDENTIFICATION HAS CHANGED"
	socketBindError   = "unix_listener: "            // begins the error of a control socket that cannot be bound
	proxyPeerName     = "UNKNOWN port 65535"         // the peer of a connection through a ProxyCommand or jump host
	bannerExchange    = "_exchange_identification: " // part of the error of a connection that ends before the server's banner
	configTerminating = ": terminating, "            // follows every mistake in a config file
	commandLinePrefix = "command-line"               // begins the error of a mistake in an option of the command line
	keyNotAccessible  = "not accessible: "           // part of the error of a key file that cannot be read
)

const loginCommand = `"localport login"`

// classifyFailure finds the reason in ssh's output, because its exit status is always 255. It returns nil if there was no
// output. p.mu is held.
func (p *outputParser) classifyFailure() *forwarder.Failure {
	f := p.lines.Classify(failureRules())
	switch {
	case f == nil:
	case strings.Contains(f.Reason, configTerminating):
		p.describeConfigMistake(f)
	case strings.Contains(f.Reason, "HAS CHANGED"):
		f.Reason, f.Hint = p.describeChangedKey(f.Reason)
	case strings.Contains(f.Reason, permissionDenied):
		p.addKeyErrors(f)
	case strings.Contains(f.Reason, proxyPeerName):
		p.addProxyOutput(f)
	}
	return f
}

// failureRules are ordered by how much a line explains: the first rule that matches wins. The ssh to a jump host prints its error
// before the ssh that waited for it.
func failureRules() []process.Rule {
	return []process.Rule{
		{Text: configTerminating, Class: forwarder.Permanent},
		{Text: "Bad configuration option", Class: forwarder.Permanent},
		{Text: "command-line line 0", Class: forwarder.Permanent},
		{Text: "command-line: line 0", Class: forwarder.Permanent},
		{Text: "Can't open user config file", Class: forwarder.Permanent},
		{Text: "Bad owner or permissions on ", Class: forwarder.Permanent},
		{Text: "contains invalid characters", Class: forwarder.Permanent},
		{Text: "Invalid -J argument", Class: forwarder.Permanent},
		{Text: hostKeyChanged, Class: forwarder.Permanent},
		{Text: "Unable to negotiate with", Class: forwarder.Permanent},

		{Text: hostKeyUnverified, Class: forwarder.NeedsUser, Hint: "to check and accept the host's key, run " + loginCommand},
		{Text: "Too many authentication failures", Class: forwarder.NeedsUser, Hint: "set key_file to the key that the server accepts"},
		{Text: permissionDenied, Class: forwarder.NeedsUser, Hint: "to log in with a password, a passphrase or a code, run " + loginCommand},

		{Text: socketBindError}, // its directory may have been removed or be full: the next attempt creates another

		{Text: "Could not resolve hostname"},
		{Text: "ssh: connect to host"},
		{Text: "open failed: "}, // a jump host cannot reach the next
		{Text: "timed out"},
		{Text: "Timeout, server"},
		{Text: "Received disconnect"},
		{Text: "closed by"},
		{Text: "Connection reset"},
		{Text: "Broken pipe"},
		{Text: ""}, // any other line
	}
}

// isFromServer reports whether a server answered before the attempt failed.
func isFromServer(f *forwarder.Failure) bool {
	return slices.ContainsFunc([]string{"closed by", "Connection reset", "Received disconnect", permissionDenied, "Too many authentication failures"},
		func(text string) bool { return strings.Contains(f.Reason, text) })
}

// describeConfigMistake replaces the line with which ssh gives up by the mistake in the config file before it, with the option's name.
func (p *outputParser) describeConfigMistake(f *forwarder.Failure) {
	mistake, ok := p.lines.LastWithout(configTerminating)
	if !ok {
		return
	}
	f.Reason, f.Hint = mistake, `correct that line; "ssh -G HOST" tries it`
	parts := configErrorPattern().FindStringSubmatch(mistake)
	if parts == nil {
		return
	}
	option := readOptionName(parts[1], parts[2])
	if option != "" && !strings.Contains(strings.ToLower(parts[3]), strings.ToLower(option)) {
		f.Reason = fmt.Sprintf("%s line %s: %s: %s", parts[1], parts[2], option, parts[3])
	}
}

// readOptionName returns the first word of a line of a config file; empty if it cannot be read.
func readOptionName(path, number string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		if strconv.Itoa(n) == number {
			name, _, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(lines.Text(), "=", " ")), " ")
			return name
		}
	}
	return ""
}

// findBadOption returns the name of the first -o option of a command line that ssh rejects; empty if it rejects none.
func findBadOption(ctx context.Context, argv []string, run forwarder.Run) string {
	for i, option := range argv {
		if i == 0 || argv[i-1] != "-o" {
			continue
		}
		check, err := process.Start(process.Command{Argv: []string{"ssh", "-G", "-F", "none", "-o", option, "--", "localhost"}, Dir: run.Dir, Env: run.Env})
		if err != nil {
			return ""
		}
		select {
		case <-check.Done():
		case <-ctx.Done():
			check.Stop(process.DefaultGracePeriod)
			return ""
		}
		if !check.HasSucceeded() {
			name, _, _ := strings.Cut(option, "=")
			return name
		}
	}
	return ""
}

// describeChangedKey returns the reason and the hint for a host key that differs from the known one.
func (p *outputParser) describeChangedKey(line string) (reason, hint string) {
	hint = "ask the host's administrator whether its key was changed"
	warning, ok := p.lines.LastContaining("has changed and you have requested")
	host := changedHostPattern().FindStringSubmatch(warning)
	if !ok || host == nil {
		return line, hint
	}
	hint += fmt.Sprintf("; only if it was, run: ssh-keygen -R '%s'", host[1])
	offending, _ := p.lines.LastContaining("Offending ")
	if file := offendingKeyPattern().FindStringSubmatch(offending); file != nil {
		hint += " -f " + file[1]
	}
	return "REMOTE HOST IDENTIFICATION HAS CHANGED: " + warning, hint
}

// addProxyOutput puts the last line of a failed ProxyCommand before that of the ssh that waited for it.
func (p *outputParser) addProxyOutput(f *forwarder.Failure) {
	if line, ok := p.lines.LastWithout(proxyPeerName, bannerExchange); ok {
		f.Reason = line + "; " + f.Reason
		return
	}
	f.Reason = "the ProxyCommand or jump host ended without an error message; " + f.Reason
}

// addKeyErrors adds ssh's preceding errors about keys to a denial.
func (p *outputParser) addKeyErrors(f *forwarder.Failure) {
	deniedLine := f.Reason
	for _, text := range []string{"agent refused operation", "Load key ", keyNotAccessible} {
		if line, ok := p.lines.LastContaining(text); ok {
			f.Reason = line + "; " + f.Reason
		}
	}
	if _, ok := p.lines.LastContaining(keyNotAccessible); ok && p.keyFile != "" {
		f.Hint = "correct key_file, or create the key: " + p.keyFile
		return
	}
	if _, ok := p.lines.LastContaining("UNPROTECTED PRIVATE KEY FILE"); ok {
		f.Hint = "make the key readable only by you: chmod 600 " + p.keyFile
		return
	}
	if p.unusableKey != "" && f.Reason == deniedLine {
		f.Reason += fmt.Sprintf(" (the server accepts %s, but ssh cannot use it: it may have a passphrase)", p.unusableKey)
		f.Hint = fmt.Sprintf(`run "ssh-add %s", then "localport restart"; or, for one login, %s`, p.unusableKey, loginCommand)
	}
}

// isUnknownOption reports whether ssh rejected an option as unknown.
func isUnknownOption(f *forwarder.Failure, option string) bool {
	return strings.Contains(strings.ToLower(f.Reason), "bad configuration option: "+strings.ToLower(option))
}
