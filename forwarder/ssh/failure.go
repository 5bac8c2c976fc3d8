package ssh

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/forwarder/ssh/mux"
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
	hostKeyChanged    = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"
	disconnected      = "Received disconnect from " // is followed by a text of the server
	tooManyFailures   = ": Too many authentication failures"
	socketBindError   = "unix_listener: "            // begins the error of a control socket that cannot be bound
	proxyPeerName     = "UNKNOWN port 65535"         // the peer of a connection through a ProxyCommand or jump host
	bannerExchange    = "_exchange_identification: " // part of the error of a connection that ends before the server's banner
	configTerminating = ": terminating, "            // follows every mistake in a config file
	missingConfigFile = "Can't open user config file "
	badOwner          = "Bad owner or permissions on "
	unknownToken      = "percent_expand: unknown key "
	emptyVariable     = "percent_expand: env var "
	invalidVersion    = "Bad remote protocol version identification: '" // is followed by a text of the server
	bannerFailure     = "banner exchange: Connection to "               // begins the error of a connection that ends before the key exchange
	connectFailure    = ": failure"                                     // ends the error of a connection that was not even tried
	commandLinePrefix = "command-line"                                  // begins the error of a mistake in an option of the command line
)

const loginCommand = `"localport login"`

// Commands that name the service: see nameService. The first is for a failure that a login may not end, so that loginCommand, without a service, must
// not try one; the second for what the user changes on the server, where nobody sees it.
const (
	loginServiceCommand   = `"localport login SERVICE"`
	restartServiceCommand = `"localport restart SERVICE"`
)

// nameService returns a failure of a destination as that of a service.
func nameService(f *forwarder.Failure, service string) *forwarder.Failure {
	copied := *f
	copied.Hint = strings.NewReplacer(loginServiceCommand, `"localport login `+service+`"`, restartServiceCommand, `"localport restart `+service+`"`).Replace(f.Hint)
	return &copied
}

// classifyFailure finds the reason in ssh's messages, because its exit status is always 255. It returns nil if there are none. p.mu is
// held.
func (p *outputParser) classifyFailure() *forwarder.Failure {
	if p.phase == phaseStarting { // a mistake on the command line is printed before the log exists, and before ssh runs any other program
		return p.classify(sourceOther, connectRules(), anyLine)
	}
	if p.keyChange != nil {
		copied := *p.keyChange
		return &copied
	}
	var f *forwarder.Failure
	switch p.phase {
	case phaseConnecting:
		f = p.classify(sourceSSH, connectRules(), networkRules(), anyLine)
	case phaseAuthenticating:
		f = p.classify(sourceSSH, loginRules(), networkRules(), anyLine)
	default:
		return cmp.Or(p.classify(sourceSSH, networkRules()), p.classifyJump(), p.lines[sourceOther].Classify(quitRules), p.classify(sourceSSH, anyLine))
	}
	if f == nil || f.Class == forwarder.Transient {
		f = cmp.Or(p.classifyJump(), f)
	}
	if f != nil && strings.Contains(f.Reason, proxyPeerName) {
		p.addProxyOutput(f)
	}
	return f
}

// classifyJump returns the failure that an ssh to a jump host, or in a ProxyCommand, reports; nil if there is none.
func (p *outputParser) classifyJump() *forwarder.Failure {
	if !p.hasProxy {
		return nil
	}
	rules := [][]process.Rule{networkRules()}
	if p.phase != phaseLoggedIn {
		rules = [][]process.Rule{connectRules(), loginRules(), networkRules()}
	}
	f := p.classify(sourceJump, rules...)
	if f == nil || len(p.jumps.lastHosts) == 0 || strings.Contains(f.Reason, proxyPeerName) {
		return f
	}
	kind, message, isOpenFailure := cutOpenFailure(f.Reason)
	jumpHost, target := p.jumps.lastConnection()
	switch {
	case !isOpenFailure:
		f.Reason = p.jumps.current() + ": " + f.Reason
		return f
	case target == "":
		f.Reason = jumpHost + ": " + f.Reason
		return f
	}
	host, port, _ := net.SplitHostPort(target)
	portNumber, _ := strconv.Atoi(port)
	refusal := newRefusal(jumpHost, host, portNumber, &mux.OpenChannelError{Reason: kind, Message: message}, p.jumps.key, "the next attempt shows whether it does")
	f.Reason, f.Hint = refusal.Reason, refusal.Hint
	return f
}

// classify returns the failure that the messages of one source explain; nil if there is none.
func (p *outputParser) classify(from source, rules ...[]process.Rule) *forwarder.Failure {
	lines := &p.lines[from]
	f := lines.Classify(slices.Concat(append([][]process.Rule{{{Text: disconnected}}}, rules...)...))
	switch {
	case f == nil:
	case strings.HasPrefix(f.Reason, disconnected):
		if strings.HasSuffix(f.Reason, tooManyFailures) {
			f.Class, f.Hint = forwarder.NeedsUser, "set key_file to the key that the server accepts"
		}
	case strings.Contains(f.Reason, configTerminating):
		p.describeConfigMistake(lines, f)
	case strings.Contains(f.Reason, badOwner):
		_, file, _ := strings.Cut(f.Reason, badOwner)
		f.Hint = fmt.Sprintf("the file must belong to you or root, and only its owner may write it: chmod go-w '%s'", file)
	case isFatalConfigMistake(f.Reason):
		f.Class, f.Reason, f.Hint = forwarder.Permanent, nameOption(f.Reason), p.correctConfigHint()
	case strings.HasSuffix(f.Reason, connectFailure):
		if cause, ok := lines.LastWithout(connectFailure); ok { // as "bind 10.0.0.5: Cannot assign requested address"
			f.Reason = cause + "; " + f.Reason
		}
	case strings.Contains(f.Reason, missingConfigFile):
		describeMissingConfigFile(f)
	case strings.HasPrefix(f.Reason, bannerFailure) && (strings.HasSuffix(f.Reason, ": invalid format") || strings.HasSuffix(f.Reason, ": could not read protocol version")):
		f.Hint = "check host and port: what answers there is not an ssh server"
	case strings.Contains(f.Reason, hostKeyChanged):
		return describeChangedKey(lines)
	case strings.Contains(f.Reason, permissionDenied):
		p.addKeyErrors(lines, f)
	}
	return f
}

// Rules are ordered by how much a line explains: the first rule that matches wins. The ssh to a jump host prints its error before the
// ssh that waited for it.

// connectRules are for what ends ssh until the server's key is checked.
func connectRules() []process.Rule {
	return []process.Rule{
		{Text: configTerminating, Class: forwarder.Permanent},
		{Text: "Bad configuration option", Class: forwarder.Permanent},
		{Text: "command-line line 0", Class: forwarder.Permanent},
		{Text: "command-line: line 0", Class: forwarder.Permanent},
		{Text: missingConfigFile, Class: forwarder.Permanent},
		{Text: badOwner, Class: forwarder.Permanent},
		{Text: unknownToken, Class: forwarder.Permanent},
		{Text: emptyVariable, Class: forwarder.Permanent, Hint: `an option uses it: set it in this shell, then run "localport restart"`},
		{Text: "hostname contains invalid characters", Class: forwarder.Permanent},
		{Text: "remote username contains invalid characters", Class: forwarder.Permanent},
		{Text: "Invalid -J argument", Class: forwarder.Permanent},
		{Text: hostKeyChanged, Class: forwarder.Permanent},
		{Text: "Unable to negotiate with", Class: forwarder.Permanent},
		{Text: hostKeyUnverified, Class: forwarder.NeedsUser, Hint: "to check and accept the host's key, run " + loginCommand},
	}
}

// loginRules are for what ends the authentication.
func loginRules() []process.Rule {
	return []process.Rule{
		{Text: permissionDenied, Class: forwarder.NeedsUser, Hint: "to log in with a password, a passphrase or a code, run " + loginCommand},
	}
}

// networkRules are for what can end ssh at any time.
func networkRules() []process.Rule {
	return []process.Rule{
		{Text: socketBindError}, // its directory may have been removed or be full: the next attempt creates another

		{Text: "Could not resolve hostname"},
		{Text: "ssh: connect to host"},
		{Text: "open failed: "}, // a jump host cannot reach the next
		{Text: "timed out"},
		{Text: "Timeout, server"},
		{Text: "closed by"},
		{Text: "Connection reset"},
		{Text: "Broken pipe"},
	}
}

// quitRules match what ssh prints at the end of a session without its log (quit_message in clientloop.c of OpenSSH). The banner may be read only after the
// login, and must not be taken for that.
var quitRules = []process.Rule{{Text: "closed by remote host."}, {Text: "Read from remote host "}}

// anyLine is the last line.
var anyLine = []process.Rule{{Text: ""}}

// isFromServer reports whether a server answered before the attempt failed.
func isFromServer(f *forwarder.Failure) bool {
	return slices.ContainsFunc([]string{"closed by", "Connection reset", "Received disconnect", permissionDenied, "Too many authentication failures"},
		func(text string) bool { return strings.Contains(f.Reason, text) })
}

// describeConfigMistake replaces the line with which ssh gives up by the mistake in the config file before it, with the option's name.
func (p *outputParser) describeConfigMistake(lines *process.Transcript, f *forwarder.Failure) {
	mistake, ok := lines.LastWithout(configTerminating)
	if !ok {
		return
	}
	f.Reason, f.Hint = nameOption(mistake), p.correctConfigHint()
}

func (p *outputParser) correctConfigHint() string {
	return fmt.Sprintf(`correct that line; "%s" tries it`, p.tryCommand)
}

// nameOption adds the option's name to ssh's message about a line of a config file.
func nameOption(mistake string) string {
	parts := configErrorPattern().FindStringSubmatch(mistake)
	if parts == nil {
		return mistake
	}
	option := readOptionName(parts[1], parts[2])
	if option == "" || strings.Contains(strings.ToLower(parts[3]), strings.ToLower(option)) {
		return mistake
	}
	return fmt.Sprintf("%s line %s: %s: %s", parts[1], parts[2], option, parts[3])
}

// isFatalConfigMistake reports whether ssh's last message is about a line of a config file: for some mistakes it ends without another word.
// Other messages of this form are warnings, after which it goes on.
func isFatalConfigMistake(message string) bool {
	return strings.HasPrefix(message, "/") && configErrorPattern().MatchString(message) &&
		!strings.Contains(message, ": Unsupported option ") && !strings.Contains(message, ": Deprecated option ")
}

// describeMissingConfigFile adds what to do about a config file that ssh cannot read.
func describeMissingConfigFile(f *forwarder.Failure) {
	_, rest, _ := strings.Cut(f.Reason, missingConfigFile)
	path := rest
	if i := strings.LastIndex(rest, ": "); i >= 0 {
		path = rest[:i]
	}
	if strings.HasSuffix(rest, ": Permission denied") {
		f.Hint = "make the file readable for you, or correct config_file: " + path
		return
	}
	f.Hint = fmt.Sprintf("create the file, or correct config_file: %s; %s", path, project.HintLocal("config_file"))
}

// readOptionName returns the first word of a line of a config file; empty if it cannot be read.
func readOptionName(path, number string) string {
	for n, line := range readLines(path) {
		if strconv.Itoa(n+1) == number {
			return optionName(line)
		}
	}
	return ""
}

// optionName returns the first word of a line of a config file.
func optionName(line string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "=", " ")), " ")
	return name
}

// readLines returns the lines of a file; none if it cannot be read.
func readLines(path string) (lines []string) {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	return lines
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

// describeChangedKey returns the failure of a host whose key differs from the known one; nil if ssh has not warned of that.
func describeChangedKey(lines *process.Transcript) *forwarder.Failure {
	line, ok := lines.LastContaining(hostKeyChanged)
	if !ok {
		return nil
	}
	f := &forwarder.Failure{Class: forwarder.Permanent, Reason: strings.Trim(line, "@ "), Hint: "ask the host's administrator whether its key was changed"}
	warning, _ := lines.LastContaining("has changed and you have requested")
	host := changedHostPattern().FindStringSubmatch(warning)
	if host == nil {
		return f
	}
	f.Reason = "REMOTE HOST IDENTIFICATION HAS CHANGED: " + warning
	f.Hint += fmt.Sprintf("; only if it was, run: ssh-keygen -R '%s'", host[1])
	offending, _ := lines.LastContaining("Offending ")
	if file := offendingKeyPattern().FindStringSubmatch(offending); file != nil {
		f.Hint += " -f " + process.QuoteWord(file[1])
	}
	return f
}

// addProxyOutput puts what explains a failed ProxyCommand before the line of the ssh that waited for it: a message of an ssh to a jump
// host, or else the last line that any program printed.
func (p *outputParser) addProxyOutput(f *forwarder.Failure) {
	const timedOut = "timed out during banner exchange"
	for _, from := range []source{sourceSSH, sourceJump, sourceOther} {
		line, ok := p.lines[from].LastWithout(proxyPeerName, bannerExchange)
		if from == sourceSSH {
			line, ok = p.lines[from].LastContaining(timedOut)
		}
		if !ok {
			continue
		}
		if defect := findProxyDefect(line); from == sourceOther && defect.Reason != "" {
			f.Reason, f.Hint = line+": "+defect.Reason+"; "+f.Reason, defect.Hint
			return
		}
		f.Reason = line + "; " + f.Reason
		if from == sourceOther && (strings.Contains(line, permissionDenied) || strings.Contains(line, hostKeyUnverified)) {
			f.Hint = "if an ssh in the ProxyCommand has a question, run " + loginServiceCommand // its path is in the command, so that its log is not told apart
		}
		return
	}
	f.Reason = cmp.Or(p.jumps.current(), "the ProxyCommand or jump host") + " ended without an error message; " + f.Reason
}

// cannotRunPatterns match the message of a shell that cannot execute a program: that of zsh, and that of the others.
var cannotRunPatterns = []func() *regexp.Regexp{
	project.LazyRegexp(`^(?:/.*/)?zsh:\d+: (?:permission denied|exec format error|no such file or directory): (/.+)$`),
	project.LazyRegexp(`^(?:/.*/)?(?:ba|da|k|mk|a|z)?sh:(?:\d+:)?(?: line \d+:| \d+:)?(?: exec:)? (/[^:]+): `),
}

// findProxyDefect returns why the program of a ProxyCommand cannot be executed, if the line is what its shell says about that.
func findProxyDefect(line string) process.Defect {
	for _, pattern := range cannotRunPatterns {
		if match := pattern().FindStringSubmatch(line); match != nil {
			return process.FindDefect(match[1], "", syscall.ENOENT)
		}
	}
	return process.Defect{}
}

// loadKeyPattern matches ssh's message about a private key that it cannot use.
var loadKeyPattern = project.LazyRegexp(`Load key "(.+)": (.+)$`)

// loadKeyHint is the next step for the last key that ssh could not load; empty if there is none.
func loadKeyHint(lines *process.Transcript) string {
	line, _ := lines.LastContaining("Load key ")
	parts := loadKeyPattern().FindStringSubmatch(line)
	if parts == nil {
		return ""
	}
	switch path, reason := parts[1], parts[2]; {
	case reason == "bad permissions":
		return "make the key readable only by you: chmod 600 " + process.QuoteWord(path)
	case reason == "Permission denied":
		return "make the key's owner the user that runs localport, or use another key: " + path
	case reason == "invalid format", strings.HasPrefix(reason, "error in libcrypto"):
		return "use a private key that ssh-keygen can read: ssh-keygen -y -f " + process.QuoteWord(path)
	}
	return ""
}

// addKeyMistake explains a denial by a file that is named as a private key and is none. It reports false if no such file is known.
func (p *outputParser) addKeyMistake(lines *process.Transcript, f *forwarder.Failure) bool {
	keys, option := p.keys[sourceSSH], "IdentityFile"
	if lines == &p.lines[sourceJump] {
		keys = p.keys[sourceJump]
	}
	paths := keys.offered
	line, _ := lines.LastContaining("Load key ")
	if parts := loadKeyPattern().FindStringSubmatch(line); parts != nil {
		paths = append(slices.Clone(paths), parts[1])
	}
	if p.keyFile != "" && lines == &p.lines[sourceSSH] {
		paths, option = []string{p.keyFile}, "key_file"
	}
	for _, path := range paths {
		mistake := findKeyMistake(path, option)
		if mistake.kind == "" || mistake.isPublicHalf && path == keys.inAgent {
			continue
		}
		f.Reason, f.Hint = fmt.Sprintf("%s %s is %s; %s", option, path, mistake.kind, f.Reason), mistake.hint
		return true
	}
	return false
}

// addKeyErrors adds ssh's preceding errors about keys to a denial.
func (p *outputParser) addKeyErrors(lines *process.Transcript, f *forwarder.Failure) {
	if p.addKeyMistake(lines, f) {
		return
	}
	deniedLine := f.Reason
	for _, text := range []string{"agent refused operation", "Load key "} {
		if line, ok := lines.LastContaining(text); ok {
			f.Reason = line + "; " + f.Reason
		}
	}
	keys, isJump := p.keys[sourceSSH], lines == &p.lines[sourceJump]
	if isJump {
		keys = p.keys[sourceJump]
	}
	const missing = "key file %s not accessible: No such file or directory; %s"
	switch loadHint := loadKeyHint(lines); {
	case isMissing(p.keyFile) && !isJump:
		f.Reason = fmt.Sprintf(missing, p.keyFile, f.Reason)
		f.Hint = createKeyHint(p.keyFile)
	case loadHint != "":
		f.Hint = loadHint
	case isMissing(keys.unusable):
		f.Reason = fmt.Sprintf(missing, keys.unusable, f.Reason) + " (only its public key is there)"
		f.Hint = fmt.Sprintf("restore the private key: %s; or name another one in key_file; or, to log in with a password or a code, run %s", keys.unusable, loginCommand)
		if isJump {
			f.Hint = fmt.Sprintf("restore the private key: %s; or name another one as IdentityFile in the ssh config; or, to log in with a password or a code, run %s", keys.unusable, loginCommand)
		}
	case keys.unusable != "" && f.Reason == deniedLine:
		f.Reason += fmt.Sprintf(" (the server accepts %s, but ssh cannot use it: it may have a passphrase)", keys.unusable)
		f.Hint = fmt.Sprintf("to enter the passphrase, run %s", loginCommand)
		if p.hasAgent {
			f.Hint = fmt.Sprintf(`run "ssh-add %s", then "localport restart"; or, for one login, %s`, process.QuoteWord(keys.unusable), loginCommand)
		}
	case strings.HasSuffix(deniedLine, "(publickey).") && len(keys.offered) > 0 && keys.missing == "" && !isJump && f.Reason == deniedLine:
		f.Hint = fmt.Sprintf("the server accepts keys only, and not %s: add its public key to authorized_keys on the server, then run %s; or use another key",
			strings.Join(keys.offered, ", "), restartServiceCommand)
	case keys.missing != "":
		f.Reason = fmt.Sprintf(missing, keys.missing, f.Reason)
		f.Hint = fmt.Sprintf("correct IdentityFile in the ssh config, or create the key: %s; or, to log in with a password or a code, run %s", keys.missing, loginCommand)
	}
}

// isUnknownOption reports whether ssh rejected an option as unknown.
func isUnknownOption(f *forwarder.Failure, option string) bool {
	return strings.Contains(strings.ToLower(f.Reason), "bad configuration option: "+strings.ToLower(option))
}
