package project

import (
	"fmt"
	"regexp"
	"strings"
)

// This file says what a line that is not TOML was probably meant as.

var (
	bareValuePattern = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*([A-Za-z_~/.:@*$][^\s,"'\[\]{}#]*)\s*(?:#.*)?$`)
	yamlPattern      = LazyRegexp(`^\s*(?:- )?([A-Za-z0-9_-]+)\s*:(?:\s+(.*?))?\s*$`)
	bareListPattern  = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*\[\s*([A-Za-z_][\w.-]*(?:\s*,\s*[A-Za-z_][\w.-]*)*)\s*,?\s*\]\s*(?:#.*)?$`)
	listSeparator    = LazyRegexp(`\s*,\s*`)
	plainPattern     = LazyRegexp(`^(?:true|false|[0-9]+)$`)
	colonPattern     = LazyRegexp(`[{,]\s*([A-Za-z0-9_-]+)\s*:\s`)
	exportLine       = LazyRegexp(`^\s*(?:export|set -gx|set|setenv|env)\s+([A-Za-z_][A-Za-z0-9_]*)[= ]`)
	direnvLine       = LazyRegexp(`^\s*(use|layout|dotenv|dotenv_if_exists|source_up|source_env|PATH_add|watch_file)\b(?:\s|$)`)
	sshConfigLine    = LazyRegexp(`^\s*(Host|HostName|Hostname|User|Port|IdentityFile|ProxyJump|LocalForward|RemoteForward|DynamicForward)\s+[^=\s]`)
	shellCommandLine = LazyRegexp(`^\s*(?:\$ )?(ssh|autossh|kubectl|kubefwd|oc|gcloud|aws|docker)\s+\S`)
	blockLine        = LazyRegexp(`^\s*(\w+)(?:\s+"[^"]*")*\s*\{\s*$`)
	callLine         = LazyRegexp(`^\s*(\w+)\(`)
)

// foreignLines is what a line is probably copied from, and what to write instead. None shows what else is on the line.
var foreignLines = []struct {
	pattern func() *regexp.Regexp
	message string // with the pattern's first group
}{
	{exportLine, `the file must be TOML, not a shell script: write %s = "…" below [env]`},
	{direnvLine, `the file must be TOML, not an .envrc: %q stays in .envrc; variables are entries of [env]`},
	{sshConfigLine, `the file must be TOML, not an ssh config: %s stays in ~/.ssh/config, and a service names its host: connection = { host = "…" }`},
	{shellCommandLine, `the file must be TOML, not a command line of %s: a service begins with a line such as [services.api]`},
	{blockLine, `the file must be TOML: instead of "%s {", a service begins with a line such as [services.api]`},
	{callLine, `the file must be TOML: instead of "%s(…)", a service begins with a line such as [services.api]`},
}

// lineMistake is what is wrong with a line that is not TOML, and how to write it; empty if that is not known. A value is shown unless its key has
// the name of a secret: then shownLine is empty.
func lineMistake(line string) (message, shownLine string) {
	if match := bareValuePattern().FindStringSubmatch(line); match != nil {
		key, value := match[1], match[2]
		switch lower := strings.ToLower(value); {
		case lower == "null" || lower == "nil" || lower == "none" || value == "~":
			return "TOML has no null: leave the line out", strings.TrimSpace(line)
		case lower == "true" || lower == "false":
			return fmt.Sprintf("true and false are written in lowercase: write %s = %s", key, lower), strings.TrimSpace(line)
		case isSecretName(key):
			return "text needs quotes", ""
		default:
			return fmt.Sprintf("text needs quotes: write %s = %q", key, value), key + " = " + value
		}
	}
	if match := bareListPattern().FindStringSubmatch(line); match != nil && !isSecretName(match[1]) {
		return fmt.Sprintf(`text needs quotes: write %s = ["%s"]`, match[1], strings.Join(listSeparator().Split(match[2], -1), `", "`)), strings.TrimSpace(line)
	}
	if match := yamlPattern().FindStringSubmatch(line); match != nil {
		key, value := match[1], match[2]
		switch {
		case value == "" && key == "services":
			return "the file must be TOML, not YAML: a service begins with a line such as [services.api]", key + ":"
		case value == "" && (key == connectionKey || key == healthCheckKey || key == "restart_policy"):
			return fmt.Sprintf("the file must be TOML, not YAML: write %s = { key = value } on one line", key), key + ":"
		case strings.HasPrefix(strings.TrimSpace(line), "- "):
			return "the file must be TOML, not YAML: a service begins with a line such as [services.api]", ""
		case value == "":
			return fmt.Sprintf("the file must be TOML, not YAML: a table begins with a line such as [services.%s]", key), key + ":"
		case plainPattern().MatchString(value):
			return fmt.Sprintf("the file must be TOML, not YAML: write %s = %s", key, value), strings.TrimSpace(line)
		default:
			return fmt.Sprintf(`the file must be TOML, not YAML: write %s = "…"`, key), ""
		}
	}
	if match := colonPattern().FindStringSubmatch(line); match != nil {
		return fmt.Sprintf(`TOML separates key and value by "=": write %s = …`, match[1]), ""
	}
	for _, foreign := range foreignLines {
		if match := foreign.pattern().FindStringSubmatch(line); match != nil {
			return fmt.Sprintf(foreign.message, match[1]), ""
		}
	}
	return "", ""
}
