package paste

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// The flags of ssh(1).
const (
	sshValueFlags = "BbcDEeFIiJLlmOoPpQRSWw"
	sshBoolFlags  = "1246AaCfGgKkMNnqsTtVvXxYy"
)

// sshFlagOption returns the option that stands for a flag with a value; empty if there is none.
func sshFlagOption(flag byte) string {
	return map[byte]string{'B': "BindInterface", 'b': "BindAddress", 'c': "Ciphers", 'I': "PKCS11Provider", 'm': "MACs", 'P': "Tag"}[flag]
}

// sshBoolOption returns the option and the value that stand for a flag without one; empty if there is none.
func sshBoolOption(flag byte) (name, value string) {
	option := map[byte][2]string{
		'4': {"AddressFamily", "inet"}, '6': {"AddressFamily", "inet6"}, 'C': {"Compression", "yes"}, 'K': {"GSSAPIAuthentication", "yes"},
		'k': {"GSSAPIDelegateCredentials", "no"},
	}[flag]
	return option[0], option[1]
}

// sshArgs are the arguments of ssh.
type sshArgs struct {
	connection draft.Table
	options    draft.Table
	forwards   []sshForward
	host       string
	lastWord   string
}

// readAutossh adds the services of autossh's arguments: ssh's, after its own.
func (r *reader) readAutossh(words []string) error {
	var rest []string
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case word == "-M" && i+1 < len(words):
			i++
		case strings.HasPrefix(word, "-M"), word == "-1":
		default:
			rest = append(rest, word)
		}
	}
	return r.readSSH(rest, "autossh")
}

// readSSH adds the services of ssh's arguments. program is how messages call it.
func (r *reader) readSSH(words []string, program string) error {
	a := &sshArgs{lastWord: program}
	command, err := r.parseSSHArgs(a, words)
	switch {
	case err != nil:
		return err
	case len(a.forwards) == 0:
		return &Error{Word: a.lastWord, Reason: "this ssh forwards no port", Advice: "add -L LOCAL:HOST:PORT, for example: ssh -L 6379:10.0.0.5:6379 bastion"}
	case a.host == "":
		return &Error{Word: a.lastWord, Reason: "the ssh host is missing after it", Advice: "write for example: ssh -L 6379:10.0.0.5:6379 bastion"}
	}
	if len(command) > 0 {
		r.note("%q has no effect: a service runs no command at the server", command[0])
	}
	if len(a.options) > 0 {
		a.connection.Set("options", a.options)
	}
	for _, forward := range a.forwards {
		r.pending = append(r.pending, forward.service(a))
	}
	return nil
}

// parseSSHArgs reads flags before and after the host, as ssh does, and returns the words of the remote command.
func (r *reader) parseSSHArgs(a *sshArgs, words []string) (command []string, err error) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		a.lastWord = word
		switch {
		case word == "--":
			if i+1 < len(words) && a.host == "" {
				return words[i+2:], a.setHost(words[i+1])
			}
			return words[i+1:], nil
		case !strings.HasPrefix(word, "-") || word == "-":
			if a.host != "" {
				return words[i:], nil
			}
			if err := a.setHost(word); err != nil {
				return nil, err
			}
		default:
			count, err := r.readSSHWord(a, words[i:])
			if err != nil {
				return nil, err
			}
			i += count - 1
		}
	}
	return nil, nil
}

// readSSHWord reads the flag or flags of the first of some words, and returns how many words they take.
func (r *reader) readSSHWord(a *sshArgs, words []string) (count int, err error) {
	if count, err := r.takeFlag(words); count > 0 || err != nil {
		return count, err
	}
	if strings.HasPrefix(words[0], "--") {
		return 0, r.unknownFlagError(words[0], "ssh", nil)
	}
	usesNext, err := r.readSSHFlags(a, words[0], words[1:])
	if usesNext {
		return 2, err
	}
	return 1, err
}

// readSSHFlags reads a word of flags, such as -fNL or -p2222.
func (r *reader) readSSHFlags(a *sshArgs, word string, next []string) (usesNext bool, err error) {
	for i := 1; i < len(word); i++ {
		flag := word[i]
		switch {
		case strings.IndexByte(sshBoolFlags, flag) >= 0:
			if err := r.setSSHBool(a, word, flag); err != nil {
				return false, err
			}
		case strings.IndexByte(sshValueFlags, flag) < 0:
			return false, &Error{Word: word, Reason: "unknown flag of ssh", Advice: "ssh's flags are those of its manual page: man ssh"}
		case i+1 < len(word):
			return false, r.setSSHValue(a, flag, word[i+1:])
		case len(next) == 0:
			return false, &Error{Word: word, Reason: "it needs a value"}
		default:
			return true, r.setSSHValue(a, flag, next[0])
		}
	}
	return false, nil
}

// setSSHBool applies a flag without a value. Those that make ssh wait in the background, or quiet, have no counterpart and need none.
func (r *reader) setSSHBool(a *sshArgs, word string, flag byte) error {
	if option, value := sshBoolOption(flag); option != "" {
		a.options.Set(option, draft.Template(value))
		return nil
	}
	switch flag {
	case 'g':
		r.note("-g has no effect: other machines cannot connect")
	case 'A', 'X', 'Y':
		r.note("-%c has no effect: a service runs no program at the server", flag)
	case 'G', 's', 'V':
		return &Error{Word: word, Reason: "this ssh forwards no port", Advice: "write for example: ssh -L 6379:10.0.0.5:6379 bastion"}
	}
	return nil
}

func (r *reader) setSSHValue(a *sshArgs, flag byte, value string) (err error) {
	a.lastWord = value
	set := func(key string) error {
		if a.connection.Text(key) != "" {
			return nil // ssh uses the first one
		}
		a.connection.Set(key, draft.Template(value))
		return checkWord(value, key != "key_file" && key != "config_file")
	}
	switch flag {
	case 'L', 'R', 'D':
		forward, err := r.parseSSHForward(flag, value)
		a.forwards = append(a.forwards, forward)
		return err
	case 'p':
		return a.setPort(value)
	case 'l':
		return set("user")
	case 'i':
		value = r.path(value)
		return set("key_file")
	case 'J':
		return set("jump")
	case 'F':
		value = r.path(value)
		return set("config_file")
	case 'o':
		return r.setSSHOption(a, value)
	case 'W', 'w', 'O', 'Q':
		return &Error{Word: "-" + string(flag), Reason: "this flag of ssh cannot be a service", Advice: "forward a port with -L LOCAL:HOST:PORT"}
	}
	if option := sshFlagOption(flag); option != "" {
		a.options.Set(option, draft.Template(value))
		return checkWord(value, false)
	}
	return nil // -E, -e, -S: about this process only
}

func (a *sshArgs) setPort(value string) error {
	port, err := parsePort(value)
	if err != nil {
		return &Error{Word: value, Reason: "the port of the ssh host is not 1-65535"}
	}
	if a.connection.Get("port") == nil {
		a.connection.Set("port", port)
	}
	return nil
}

// ownSSHOptions are those that a service sets itself, or that concern a terminal or a session, in lower case.
var ownSSHOptions = []string{
	"batchmode", "clearallforwardings", "controlmaster", "controlpath", "controlpersist", "exitonforwardfailure", "forkafterauthentication",
	"gatewayports", "localcommand", "loglevel", "logverbose", "permitlocalcommand", "remotecommand", "requesttty", "sessiontype", "stdinnull",
	"streamlocalbindunlink", "escapechar", "tunnel", "tunneldevice", "forwardagent", "forwardx11", "forwardx11trusted", "sendenv", "setenv",
}

// setSSHOption applies -o NAME=VALUE, "NAME VALUE" or "NAME = VALUE" (ssh_config(5)).
func (r *reader) setSSHOption(a *sshArgs, text string) error {
	name, value, found := cutOption(text)
	if !found || !optionNamePattern().MatchString(name) {
		return &Error{Word: text, Reason: "not an option of ssh", Advice: "write -o NAME=VALUE"}
	}
	switch lower := strings.ToLower(name); lower {
	case "localforward", "remoteforward", "dynamicforward":
		return r.setSSHValue(a, map[string]byte{"localforward": 'L', "remoteforward": 'R', "dynamicforward": 'D'}[lower], strings.Join(strings.Fields(value), ":"))
	case "user":
		return r.setSSHValue(a, 'l', value)
	case "port":
		return a.setPort(value)
	case "identityfile":
		return r.setSSHValue(a, 'i', value)
	case "proxyjump":
		return r.setSSHValue(a, 'J', value)
	default:
		if slices.Contains(ownSSHOptions, lower) {
			return nil
		}
	}
	for _, option := range a.options {
		if strings.EqualFold(option.Key, name) {
			return nil // ssh uses the first one
		}
	}
	a.options = append(a.options, draft.Entry{Key: name, Value: draft.Template(value)})
	return checkWord("x"+value, false)
}

var optionNamePattern = project.LazyRegexp(`^[A-Za-z][A-Za-z0-9]*$`)

// cutOption splits a line of ssh_config(5): the name, blanks or one "=", the value.
func cutOption(text string) (name, value string, found bool) {
	text = strings.TrimSpace(text)
	i := strings.IndexAny(text, "= \t")
	if i < 0 {
		return text, "", false
	}
	value = strings.TrimLeft(text[i:], " \t")
	value = strings.TrimLeft(strings.TrimPrefix(value, "="), " \t")
	value = strings.Trim(value, `"`)
	return text[:i], value, value != ""
}

// setHost reads [user@]host or ssh://[user@]host[:port].
func (a *sshArgs) setHost(word string) error {
	if strings.HasPrefix(word, "ssh://") {
		u, err := url.Parse(strings.ReplaceAll(word, "$$", "$"))
		if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || strings.Contains(word, "${") {
			return &Error{Word: word, Reason: "not an ssh URL", Advice: "write ssh://user@host:port"}
		}
		if u.Port() != "" {
			if err := a.setPort(u.Port()); err != nil {
				return err
			}
		}
		word = u.Hostname()
		if user := u.User.Username(); user != "" {
			word = draft.EscapeTemplate(user) + "@" + word
		}
	}
	at := strings.LastIndexByte(word, '@')
	if at >= 0 && a.connection.Text("user") == "" {
		if err := checkWord(word[:at], true); err != nil {
			return err
		}
		a.connection.Set("user", draft.Template(word[:at]))
	}
	a.host = word[at+1:]
	if host, port, found := strings.Cut(a.host, ":"); found && !strings.Contains(port, ":") {
		return &Error{Word: word, Reason: "ssh takes no port in the host", Advice: "write -p " + port + " " + word[:at+1] + host}
	}
	if err := checkHost(a.host); err != nil {
		return err
	}
	a.connection.Set("host", draft.Template(a.host))
	return nil
}

// sshForward is the value of -L, -R or -D.
type sshForward struct {
	flag         byte
	bindAddress  string // of -R: the server's; of the others: a local_address
	bindPort     int    // where the local machine, or with -R the server, listens
	host         string // of the destination
	port         int
	localAddress string
}

// service returns the service that does the same.
func (f sshForward) service(a *sshArgs) pendingService {
	d := pendingService{technology: "ssh", base: f.baseName(a.host), localPort: f.bindPort, localAddress: f.localAddress, connection: slices.Clone(a.connection)}
	switch f.flag {
	case 'D':
		d.connection.Set("socks", true)
	case 'R':
		d.localPort, d.remotePort = f.port, strconv.Itoa(f.bindPort)
		d.connection.Set("reverse", true)
		d.connection.Set("remote_host", draft.Template(f.bindAddress))
	default:
		d.remotePort = strconv.Itoa(f.port)
		if f.host != "localhost" {
			d.connection.Set("remote_host", draft.Template(f.host))
		}
	}
	slices.SortStableFunc(d.connection, func(a, b draft.Entry) int {
		return slices.Index(connectionOrder, a.Key) - slices.Index(connectionOrder, b.Key)
	})
	return d
}

// connectionOrder is the order in which the keys of a connection are written.
var connectionOrder = []string{"host", "user", "port", "key_file", "config_file", "jump", "socks", "reverse", "remote_host", "options"}

func (f sshForward) baseName(server string) string {
	switch f.flag {
	case 'D':
		return "socks"
	case 'R':
		return "reverse-" + strconv.Itoa(f.port)
	}
	return nameOfHost(f.host, f.port, server)
}

// parseSSHForward parses [BIND:]PORT:HOST:PORT, or for -D [BIND:]PORT (ssh(1)). An IPv6 address is in brackets.
func (r *reader) parseSSHForward(flag byte, text string) (f sshForward, err error) {
	f.flag = flag
	form := map[byte]string{'L': "-L [BIND:]PORT:HOST:PORT", 'R': "-R [BIND:]PORT:localhost:PORT", 'D': "-D [BIND:]PORT"}[flag]
	invalid := func(reason string) error {
		return &Error{Word: text, Reason: reason, Advice: "write " + form + ", with an IPv6 address in brackets"}
	}
	if strings.Contains(text, "/") && !strings.Contains(text, "${") {
		return f, &Error{Word: text, Reason: "a unix socket cannot be forwarded", Advice: "only TCP ports can: write " + form}
	}
	fields, ok := splitForward(text)
	wanted := map[byte]int{'L': 3, 'R': 3, 'D': 1}[flag]
	switch {
	case flag == 'R' && ok && len(fields) <= 2:
		return f, &Error{Word: text, Reason: "a SOCKS proxy at the server cannot be a service", Advice: "name one destination: " + form}
	case !ok || len(fields) != wanted && len(fields) != wanted+1:
		return f, invalid("not a forward of ssh")
	}
	hasBind := len(fields) == wanted+1
	if hasBind {
		f.bindAddress, fields = fields[0], fields[1:]
	}
	if f.bindPort, err = parsePort(fields[0]); err != nil && (flag == 'R' || fields[0] != "0") {
		return f, invalid("the port on which ssh listens is not 1-65535")
	}
	if flag != 'D' {
		f.host = fields[1]
		if f.port, err = parsePort(fields[2]); err != nil {
			return f, invalid("the port of the destination is not 1-65535")
		}
		if err := checkHost(f.host); err != nil {
			return f, err
		}
	}
	if flag == 'R' {
		return f, f.checkReverse(text)
	}
	if hasBind {
		f.localAddress, err = r.localAddress([]string{f.bindAddress})
	}
	return f, err
}

// checkReverse checks that the destination is a server on this machine, and normalizes where the ssh server listens.
func (f *sshForward) checkReverse(text string) error {
	switch f.host {
	case "localhost", "127.0.0.1", "::1":
	default:
		return &Error{
			Word: text, Reason: "a reverse forward leads to a server on this machine, not to " + f.host,
			Advice: "write -R PORT:localhost:PORT",
		}
	}
	switch f.bindAddress {
	case "localhost":
		f.bindAddress = ""
	case "*":
		f.bindAddress = "0.0.0.0"
	case "":
		return nil
	}
	if f.bindAddress != "" {
		return checkHost(f.bindAddress)
	}
	return nil
}

// splitForward splits at colons that are not in brackets, and removes the brackets.
func splitForward(text string) (fields []string, ok bool) {
	for {
		var field string
		if strings.HasPrefix(text, "[") {
			end := strings.IndexByte(text, ']')
			if end < 0 || end+1 < len(text) && text[end+1] != ':' {
				return nil, false
			}
			field, text = text[1:end], text[end+1:]
			fields = append(fields, field)
		} else {
			end := strings.IndexByte(text, ':')
			if strings.HasPrefix(text, "${") { // a variable may hold a default, with its colon
				end = strings.IndexByte(text, '}') + 1
				if end == len(text) {
					end = -1
				}
			}
			if end < 0 {
				return append(fields, text), true
			}
			fields = append(fields, text[:end])
			text = text[end:]
		}
		if text == "" {
			return fields, true
		}
		if text[0] != ':' {
			return nil, false
		}
		text = text[1:]
	}
}
