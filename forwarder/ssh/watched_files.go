package ssh

import (
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filestamps"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// fileOptions are the options of ssh_config, in lower case, whose values are files that a failure may rest on.
var fileOptions = []string{
	identityFileOption, "certificatefile", "userknownhostsfile", "globalknownhostsfile", "revokedhostkeys", identityAgentOption,
}

// identityAgentOption names the socket of an agent, or the environment variable that has it (ssh_config(5), IdentityAgent).
const identityAgentOption = "identityagent"

// identityFileOption names a private key. ssh also reads the public key and the certificate beside it.
const identityFileOption = "identityfile"

// defaultKeys are the private keys below ~/.ssh that ssh uses by default.
var defaultKeys = []string{"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"}

// watchedFiles collects the files that a failure may rest on.
type watchedFiles struct {
	run             forwarder.Run
	paths, patterns []string
	agents          []string // the sockets of agents that a config names
}

// findInputs returns the files that ssh may read for this destination and its jump hosts, whether or not they exist: the config files, those that
// they include, and the files that any line names. agents are the sockets of the agents that ssh may ask, at most maxAgents. Which Host and Match
// blocks apply only ssh can tell, and for each jump host anew: a file or agent of another host is watched too, and costs an attempt when it changes.
// The directory ~/.ssh itself is not watched: control sockets come and go in it.
func (d *destination) findInputs(run forwarder.Run) (files filestamps.Stamps, agents []string) {
	w := &watchedFiles{run: run}
	if d.keyFile != "" {
		w.addKey(d.keyFile)
	}
	for _, name := range slices.Sorted(maps.Keys(d.options)) {
		w.addLine(append([]string{name}, splitConfigLine("x=" + d.options[name])[1:]...))
	}
	if config := userConfigFile(); config != "" {
		for _, name := range defaultKeys {
			w.addKey(filepath.Join(filepath.Dir(config), name))
		}
		w.paths = append(w.paths, filepath.Join(filepath.Dir(config), "known_hosts"), filepath.Join(filepath.Dir(config), "known_hosts2"))
	}
	w.paths = append(w.paths, "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
	w.addConfigFiles(d.rootConfigFiles())
	files = filestamps.Of(w.paths...)
	files.AddMatches(w.patterns...)
	for _, socket := range append([]string{process.Getenv(run.Env, AgentVariable)}, w.agents...) {
		if socket != "" && len(agents) < maxAgents && !slices.Contains(agents, socket) {
			agents = append(agents, socket)
		}
	}
	return files, agents
}

// rootConfigFiles are the config files that ssh reads because nothing includes them.
func (d *destination) rootConfigFiles() []string {
	switch {
	case strings.EqualFold(d.configFile, "none"):
		return nil
	case d.configFile != "":
		return []string{d.configFile}
	}
	return []string{userConfigFile(), systemConfigFile}
}

// addConfigFiles adds config files, those that they include, and the files that these name.
func (w *watchedFiles) addConfigFiles(files []string) {
	w.paths = append(w.paths, files...)
	for i := 0; i < len(files) && i < maxConfigFiles; i++ {
		for _, words := range configLines(files[i]) {
			if !strings.EqualFold(words[0], "Include") {
				w.addLine(words)
				continue
			}
			for _, value := range words[1:] {
				for _, included := range w.addInclude(value) {
					if !slices.Contains(files, included) {
						files = append(files, included)
					}
				}
			}
		}
	}
}

// addInclude adds the files of an Include, and returns those that exist.
func (w *watchedFiles) addInclude(value string) []string {
	pattern := strings.ReplaceAll(includePattern(w.expand(value)), unknownPart, "*")
	matches, _ := filepath.Glob(pattern)
	if strings.ContainsAny(pattern, `*?[`) {
		w.patterns = append(w.patterns, pattern)
	} else {
		w.paths = append(w.paths, pattern)
	}
	return matches
}

// addLine adds the files that a line of a config file names.
func (w *watchedFiles) addLine(words []string) {
	option := strings.ToLower(words[0])
	if !slices.Contains(fileOptions, option) {
		return
	}
	for _, value := range words[1:] {
		if strings.EqualFold(value, "none") {
			continue
		}
		if option == identityAgentOption {
			if name, isVariable := strings.CutPrefix(value, "$"); isVariable && !strings.HasPrefix(name, "{") {
				value = process.Getenv(w.run.Env, name)
			}
			if value == "" || value == AgentVariable { // the agent of the environment
				continue
			}
		}
		path := w.expand(value)
		if rest, isHome := strings.CutPrefix(path, "~/"); isHome {
			path = filepath.Join(homeDir(), rest)
		} else if !filepath.IsAbs(path) {
			path = filepath.Join(w.run.Dir, path)
		}
		switch {
		case strings.Contains(path, unknownPart):
			pattern := strings.ReplaceAll(globEscaper.Replace(path), unknownPart, "*")
			if w.patterns = append(w.patterns, pattern); option == identityFileOption {
				w.patterns = append(w.patterns, pattern+".pub", pattern+"-cert.pub")
			}
		case option == identityFileOption:
			w.addKey(path)
		case option == identityAgentOption:
			w.paths, w.agents = append(w.paths, path), append(w.agents, path)
		default:
			w.paths = append(w.paths, path)
		}
	}
}

// addKey adds the files of a private key.
func (w *watchedFiles) addKey(path string) {
	w.paths = append(w.paths, path, path+".pub", path+"-cert.pub")
}

var globEscaper = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`)

// unknownPart stands in a path for what only ssh knows. No path contains it.
const unknownPart = "\x00"

// tokenPattern matches a token or an environment variable in a value (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES).
var tokenPattern = project.LazyRegexp(`%.|\$\{[^}]+\}`)

// expand replaces the tokens and environment variables of a value.
func (w *watchedFiles) expand(value string) string {
	return tokenPattern().ReplaceAllStringFunc(value, func(token string) string {
		switch token {
		case "%%":
			return "%"
		case "%d":
			return homeDir()
		case "%i":
			return strconv.Itoa(os.Getuid())
		case "%u":
			if u, err := user.Current(); err == nil {
				return u.Username
			}
		}
		if name, isVariable := strings.CutPrefix(token, "${"); isVariable {
			return process.Getenv(w.run.Env, strings.TrimSuffix(name, "}"))
		}
		return unknownPart // of the host, for example
	})
}

// homeDir returns the user's home directory as ssh finds it; see userConfigFile.
func homeDir() string { return filepath.Dir(filepath.Dir(userConfigFile())) }
