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

// ssh uses the first value of an option, and the command line precedes every file (ssh_config(5)).

// requiredOptions make the process a master that only this program uses, whatever the user's configuration says.
var requiredOptions = []string{
	"ControlMaster=yes", "ControlPersist=no", // it must not outlive the supervisor
	"ClearAllForwardings=yes",             // opens none of the user's own forwards; channels are not affected
	"ExitOnForwardFailure=no",             // nor does it fail because of them
	"RemoteCommand=none", "RequestTTY=no", // -N and -T do not override these two in a file
	"LogLevel=DEBUG1", // reports the login, and the keys that the server accepts
}

// forkOption must be off as well. OpenSSH has it since 8.7; in older versions no file could make ssh fork.
const forkOption = "ForkAfterAuthentication"

// logVerboseOption must be off: it puts source locations before the messages, which then would not be recognized. OpenSSH has it
// since 8.5.
const logVerboseOption = "LogVerbose"

// baseArgv returns the command line of a master without the options of one run. Services with the same one share a master.
func (s *tunnelSpec) baseArgv() []string {
	argv := []string{"ssh", "-N", "-T"}
	options := slices.Clone(requiredOptions)
	for _, name := range slices.Sorted(maps.Keys(s.connection.options)) {
		options = append(options, name+"="+s.connection.options[name])
	}
	if s.connection.keyFile != "" {
		// Without it ssh tries every key of the agent first, and the server may have had enough attempts.
		options = append(options, "IdentitiesOnly=yes")
	}
	for _, option := range options {
		argv = append(argv, "-o", option)
	}
	return append(append(argv, s.loginArgs()...), "--", s.connection.host)
}

// loginArgs returns the arguments that select user, port, key, jump hosts and config file.
func (s *tunnelSpec) loginArgs() []string {
	var args []string
	port := ""
	if s.connection.port != 0 {
		port = strconv.Itoa(s.connection.port)
	}
	for _, flag := range []struct{ name, value string }{
		{"-F", s.connection.configFile}, {"-J", s.connection.jumpHosts}, {"-i", s.connection.keyFile}, {"-l", s.connection.user}, {"-p", port},
	} {
		if flag.value != "" {
			args = append(args, flag.name, flag.value)
		}
	}
	return args
}

// linkConfigFile replaces the path of the config file in argv by a symbolic link in dir if it holds characters that a shell
// interprets: ssh puts it unquoted into the shell command that starts the ssh to a jump host. The replacer turns the link back
// into the path, for ssh's output.
func linkConfigFile(argv []string, dir string) (linkedArgv []string, linkToPath *strings.Replacer, err error) {
	fileIndex := slices.Index(argv, "-F") + 1
	if fileIndex == 0 || !strings.ContainsFunc(argv[fileIndex], needsQuoting) {
		return argv, strings.NewReplacer(), nil
	}
	path, link := argv[fileIndex], filepath.Join(dir, "c")
	linkedArgv = slices.Clone(argv)
	linkedArgv[fileIndex] = link
	return linkedArgv, strings.NewReplacer(link, path), os.Symlink(path, link)
}

// needsQuoting reports whether a shell or ssh may interpret a character.
func needsQuoting(r rune) bool {
	return r < 0x80 && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+,@:=", r)
}

// logPath is where ssh logs: its standard output, on which it prints nothing else. On its standard error there are banners of servers and
// the output of other programs too.
const logPath = "/dev/fd/1"

// buildArgv returns the command line of one run. isOldSSH leaves out options that OpenSSH before 8.7 rejects; canAsk lets ssh ask
// questions.
func buildArgv(baseArgv []string, socket string, isOldSSH, canAsk bool) []string {
	runOptions := []string{"-E", logPath, "-S", escapePercent(socket)}
	if !isOldSSH {
		runOptions = append(runOptions, "-o", forkOption+"=no", "-o", logVerboseOption+"=none")
	}
	batchMode := "BatchMode=yes" // no user to ask
	if canAsk {
		batchMode = "BatchMode=no"
	}
	runOptions = append(runOptions, "-o", batchMode)
	return slices.Concat(baseArgv[:1], runOptions, baseArgv[1:])
}

// escapePercent escapes the tokens that -S would expand.
func escapePercent(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// buildEnv returns the environment of ssh. Files that it refers to are created in dir, and needed until ssh has logged in.
func (m *master) buildEnv(dir, jumpLog string, bypassesJumpMaster bool) ([]string, error) {
	env, err := askpass.Environment(m.runConfig.Env, dir, m.askSocket)
	if err != nil {
		return nil, err
	}
	if bypassesJumpMaster {
		m.destination.log.writeLine("the connection to the jump host timed out: trying without the ControlPath masters of your ssh config")
	}
	return wrapper.Environment(env, dir, wrapper.Options{LogPipe: jumpLog, BypassesMasters: bypassesJumpMaster})
}
