package ssh

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// ssh uses the first value of an option that it reads: the command line's, then the user's file's, then the system's (ssh_config(5)). The
// defaults of this program are to lose against all of them, so they are read last: from a file that includes the others.

// defaultOptions are the options that apply if neither the service nor a config file sets them. The two for keepalives end a
// connection after 45 s of silence; newcomers do not wait for that, see master.setAside.
func defaultOptions(connectTimeout time.Duration) []string {
	return []string{"ServerAliveInterval=15", "ServerAliveCountMax=3", fmt.Sprintf("ConnectTimeout=%d", connectTimeout/time.Second)}
}

const systemConfigFile = "/etc/ssh/ssh_config"

// defaultConnectTimeout is the first ConnectTimeout. It limits the wait for the server's first line too, which a ProxyCommand may delay:
// after each attempt that ended because of that it is three times as long, up to maxConnectTimeout.
const (
	defaultConnectTimeout = 10 * time.Second
	maxConnectTimeout     = 270 * time.Second
)

// userConfigFile returns the path of the user's ssh_config. ssh finds it in the home directory of the password database, not in $HOME.
func userConfigFile() string {
	u, err := user.Current()
	if err != nil || u.HomeDir == "" {
		return ""
	}
	return filepath.Join(u.HomeDir, ".ssh", "config")
}

// useDefaults returns argv with the default options added behind the config files. It writes a config file into dir that ssh needs until
// it has logged in. toConfigFile turns its path in ssh's output back into that of the service's config file.
func useDefaults(argv []string, dir string, defaults []string) (newArgv []string, toConfigFile *strings.Replacer, err error) {
	defaults = slices.DeleteFunc(slices.Clone(defaults), func(option string) bool { return isOptionSet(argv, option) })
	configFile, i := "", slices.Index(argv, "-F")
	if i >= 0 {
		configFile = argv[i+1]
	}
	text, ok := configText(configFile)
	if !ok || strings.ContainsFunc(dir, needsQuoting) {
		// ssh reads the config file itself and says what is wrong with it.
		newArgv, toConfigFile, err = linkConfigFile(argv, dir)
		for _, option := range defaults {
			newArgv = slices.Insert(slices.Clone(newArgv), 1, "-o", option)
		}
		return newArgv, toConfigFile, err
	}
	path := filepath.Join(dir, "c")
	text += "\nHost *\n\t" + strings.Join(defaults, "\n\t") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, nil, err
	}
	if i < 0 {
		return slices.Insert(slices.Clone(argv), 1, "-F", path), strings.NewReplacer(), nil
	}
	newArgv = slices.Clone(argv)
	newArgv[i+1] = path
	return newArgv, strings.NewReplacer(path, configFile), nil
}

// isOptionSet reports whether argv sets the option that option, as in NAME=VALUE, sets.
func isOptionSet(argv []string, option string) bool {
	name, _, _ := strings.Cut(option, "=")
	return slices.ContainsFunc(argv, func(arg string) bool {
		other, _, isOption := strings.Cut(arg, "=")
		return isOption && strings.EqualFold(other, name)
	})
}

// configText returns a config file with what ssh would read: a copy of the given one, so that the numbers of its lines stay, or without
// one, both files that ssh reads by default. It is not ok if one of them cannot be used in this way.
func configText(configFile string) (text string, ok bool) {
	if strings.EqualFold(configFile, "none") {
		return "", true
	}
	if configFile != "" {
		info, err := os.Stat(configFile)
		if err != nil || !info.Mode().IsRegular() {
			return "", false
		}
		data, err := os.ReadFile(configFile)
		return string(data), err == nil
	}
	for _, file := range []string{userConfigFile(), systemConfigFile} {
		info, err := os.Stat(file)
		if file == "" || os.IsNotExist(err) {
			continue
		}
		if err != nil || strings.ContainsFunc(file, needsQuoting) || !canBeIncluded(info) {
			return "", false
		}
		text += "Include " + file + "\n"
	}
	return text, true
}

// canBeIncluded reports whether ssh includes a file: it must belong to root or the user, and nobody else may write it. ssh does not demand
// that of the system's file when it reads it by itself: in a user namespace, root's files belong to nobody.
func canBeIncluded(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Getuid()) && info.Mode().Perm()&0o022 == 0
}

// includedFiles returns the files that a config file of the user includes, whatever the Host or Match block.
func includedFiles(path string) []string {
	var files []string
	for _, words := range configLines(path) {
		if !strings.EqualFold(words[0], "Include") {
			continue
		}
		for _, pattern := range words[1:] {
			matches, _ := filepath.Glob(includePattern(pattern))
			files = append(files, matches...)
		}
	}
	return files
}

// includePattern returns the absolute pattern for a value of Include.
func includePattern(value string) string {
	rest, isHome := strings.CutPrefix(value, "~/")
	switch userDir := filepath.Dir(userConfigFile()); {
	case isHome:
		return filepath.Join(filepath.Dir(userDir), rest)
	case !filepath.IsAbs(value):
		return filepath.Join(userDir, value)
	}
	return value
}

// configLines returns the words of each line of a config file that has any; none if the file cannot be read.
func configLines(path string) [][]string {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	var all [][]string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if words := splitConfigLine(lines.Text()); len(words) > 0 {
			all = append(all, words)
		}
	}
	return all
}

// splitConfigLine returns the words of a line of a config file: the option's name, and values, which may be quoted (ssh_config(5)). A comment
// has none.
func splitConfigLine(line string) []string {
	var words []string
	line = strings.TrimSpace(line)
	for line != "" && line[0] != '#' {
		end := strings.IndexFunc(line, func(r rune) bool { return unicode.IsSpace(r) || len(words) == 0 && r == '=' })
		quote, start := line[0], 0
		if quote == '"' || quote == '\'' {
			start, end = 1, strings.IndexByte(line[1:], quote)+1
			if end == 0 {
				return words // ssh reports it
			}
		}
		if end < 0 {
			end = len(line)
		}
		words = append(words, line[start:end])
		line = strings.TrimLeftFunc(line[min(end+start, len(line)):], unicode.IsSpace)
		if len(words) == 1 {
			line = strings.TrimLeftFunc(strings.TrimPrefix(line, "="), unicode.IsSpace)
		}
	}
	return words
}
