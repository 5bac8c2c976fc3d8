package ssh

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/forwarder/ssh/wrapper"
)

// To ssh the first value of an option counts, and the command line's come before those of any file.

// needed are the options without which the master would not work, or would not be ours.
var needed = []string{
	"ControlMaster=yes", "ControlPersist=no", // it is not to outlive us
	"ClearAllForwardings=yes",             // those of the user's own are not ours to open; channels are not meant by it
	"ExitOnForwardFailure=no",             // and not our business
	"RemoteCommand=none", "RequestTTY=no", // -N and -T alone do not suffice against a configuration
	"LogLevel=DEBUG1", // says when it has logged in, and which key it could not use
}

// sinceOld is needed too, but ssh knows it since 8.7 only. Before that it was no option that a file could set.
const sinceOld = "ForkAfterAuthentication"

// verbose puts the place in ssh's source before its lines, wherever a file sets it: they would not be recognized. ssh knows it
// since 8.5.
const verbose = "LogVerbose"

// usual are the options that a config may change. A server that says nothing for nine seconds is gone.
var usual = []string{"ServerAliveInterval=3", "ServerAliveCountMax=2", "ConnectTimeout=10"}

// argv is the command line of a master but for its socket. Whoever has the same shares it.
func (t *spec) argv() []string {
	argv := []string{"ssh", "-N", "-T"}
	options := slices.Clone(needed)
	for _, name := range slices.Sorted(maps.Keys(t.to.options)) {
		options = append(options, name+"="+t.to.options[name])
	}
	options = append(options, usual...)
	if t.to.keyFile != "" {
		// The key that is named must not come after all those in an agent: servers count the attempts.
		options = append(options, "IdentitiesOnly=yes")
	}
	for _, option := range options {
		argv = append(argv, "-o", option)
	}
	return append(append(argv, t.login()...), "--", t.to.host)
}

// login are the arguments that say where and as whom to log in, without the host.
func (t *spec) login() []string {
	var args []string
	port := ""
	if t.to.port != 0 {
		port = strconv.Itoa(t.to.port)
	}
	for _, flag := range []struct{ name, value string }{
		{"-F", t.to.configFile}, {"-J", t.to.jump}, {"-i", t.to.keyFile}, {"-l", t.to.user}, {"-p", port},
	} {
		if flag.value != "" {
			args = append(args, flag.name, flag.value)
		}
	}
	return args
}

// alias makes argv name its config file by a link in dir, if its path is one that ssh cannot hand on to the ssh to a jump host:
// it puts it into a shell's command line as it stands. Whatever ssh says of the link is to go through names.
func alias(argv []string, dir string) (aliased []string, names *strings.Replacer, err error) {
	at := slices.Index(argv, "-F") + 1
	if at == 0 || !strings.ContainsFunc(argv[at], special) {
		return argv, strings.NewReplacer(), nil
	}
	path, link := argv[at], filepath.Join(dir, "c")
	aliased = slices.Clone(argv)
	aliased[at] = link
	return aliased, strings.NewReplacer(link, path), os.Symlink(path, link)
}

// special reports whether a character means something, or may, to a shell or to ssh.
func special(r rune) bool {
	return r < 0x80 && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+,@:=", r)
}

// command is the command line of one run: with its socket, and as what is known of this ssh and of the user asks for.
func command(argv []string, socket string, old, asking bool) []string {
	first := []string{"-S", escape(socket)}
	if !old {
		first = append(first, "-o", sinceOld+"=no", "-o", verbose+"=none")
	}
	batch := "BatchMode=yes" // nobody is there to be asked
	if asking {
		batch = "BatchMode=no"
	}
	first = append(first, "-o", batch)
	return slices.Concat(argv[:1], first, argv[1:])
}

// escape writes a path as -S wants it: a percent sign begins a token.
func escape(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// environment is ssh's. What it needs lies in dir.
func (m *master) environment(dir string, around bool) ([]string, error) {
	env, err := askpass.Environment(m.run.Env, dir, m.asking)
	if err != nil || !around {
		return env, err
	}
	m.at.logs.write("the way to the jump host did not answer: going around the masters of your own configuration (ControlPath)")
	return wrapper.Around(env, dir)
}
