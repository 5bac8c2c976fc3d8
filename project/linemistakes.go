package project

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// This file says what a line that is not TOML was probably meant as.

var (
	bareValuePattern = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*([A-Za-z_~/.:@*$][^\s,"'\[\]{}#]*)\s*(?:#.*)?$`)
	yamlPattern      = LazyRegexp(`^\s*(?:- )?([A-Za-z0-9_-]+)\s*:(?:\s+(.*?))?\s*$`)
	bareListPattern  = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*\[\s*([A-Za-z_][\w.-]*(?:\s*,\s*[A-Za-z_][\w.-]*)*)\s*,?\s*\]\s*(?:#.*)?$`)
	listSeparator    = LazyRegexp(`\s*,\s*`)
	plainPattern     = LazyRegexp(`^(?:true|false|[0-9]+)$`)
	bareTextPattern  = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*([A-Za-z_~/.:@*$][^"'\[\]{}#]*?)\s*(?:#.*)?$`)
	dotEnvNames      = LazyRegexp(`^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*$`)
	colonPattern     = LazyRegexp(`[{,]\s*["']?([A-Za-z0-9_-]+)["']?\s*:(?:\s|["'])`)
	jsonKeyPattern   = LazyRegexp(`^\s*["'][\w.-]+["']\s*:`)
	portRangePattern = LazyRegexp(`^\s*([A-Za-z0-9_.-]*port)\s*=\s*([0-9]{1,5})-[0-9]{1,5}\s*(?:#.*)?$`)
	separatorPattern = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*([0-9]{1,3})[,'. ]([0-9]{3})\s*(?:#.*)?$`)
	zerosPattern     = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=\s*0+([1-9][0-9]*)\s*(?:#.*)?$`)
	hugePortPattern  = LazyRegexp(`^\s*([A-Za-z0-9_.-]*port)\s*=\s*[0-9]{6,}\s*(?:#.*)?$`)
	missingValue     = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*=?\s*(?:#.*)?$`)
	otherEquals      = LazyRegexp(`^\s*([A-Za-z0-9_.-]+)\s*(==+|:=|=>|\+=|\?=|->|<-)\s*\S`)
	spacedKey        = LazyRegexp(`^\s*([A-Za-z]+(?: [A-Za-z]+){1,2})\s*=`)
	quotedHeader     = LazyRegexp(`^\s*\[\s*([A-Za-z]+)\s+["']([\w-]+)["']\s*\]\s*$`)
	spacedHeader     = LazyRegexp(`^\s*\[\s*(services\.)?\s*([\w-]+)\s+([\w-]+)\s*\]\s*$`)
	exportLine       = LazyRegexp(`^\s*(?:export|set -gx|set|setenv|env)\s+([A-Za-z_][A-Za-z0-9_]*)[= ]`)
	direnvLine       = LazyRegexp(`^\s*(use|layout|dotenv|dotenv_if_exists|source_up|source_env|PATH_add|watch_file)\b(?:\s|$)`)
	sshConfigLine    = LazyRegexp(`^\s*(Host|HostName|Hostname|User|Port|IdentityFile|ProxyJump|LocalForward|RemoteForward|DynamicForward)\s+[^=\s]`)
	forwardCommand   = LazyRegexp(`^\s*(?:\$ )?(?:sudo )?(?:(kubectl|oc)\s(?:.*\s)?port-forward\b|(ssh|autossh)\s(?:.*\s)?-\w*[LRD])`)
	containerCommand = LazyRegexp(`^\s*(?:\$ )?(?:sudo )?(docker|docker-compose|podman|podman-compose|nerdctl)\s+\S`)
	cloudCommand     = LazyRegexp(`^\s*(?:\$ )?(?:sudo )?(gcloud|aws|az|tsh|cloud-sql-proxy|cloud_sql_proxy)\s+\S`)
	shellCommandLine = LazyRegexp(`^\s*(?:\$ )?(?:sudo )?(ssh|autossh|kubectl|kubefwd|kftray|telepresence|oc|helm|socat|nc|psql|curl|localport|direnv|mise|sshuttle)\s+\S`)
	promptLine       = LazyRegexp(`^\s*(\$) \S`)
	plainLine        = LazyRegexp(`^\s*([A-Za-z][\w-]*)(?:\s+[A-Za-z(][\w,.'()!-]*){2,}\s*$`)
	blockLine        = LazyRegexp(`^\s*(\w+)(?:\s+"[^"]*")*\s*\{\s*$`)
	callLine         = LazyRegexp(`^\s*(\w+)\(`)
)

// foreignLines is what a line is probably copied from, and what to write instead. Of the line, shown is quoted; empty: what the pattern matches.
var foreignLines = []struct {
	pattern        func() *regexp.Regexp
	message, shown string // with the pattern's group
}{
	{exportLine, `the file must be TOML, not a shell script: write %s = "…" below a line [env]`, ""},
	{direnvLine, `the file must be TOML, not an .envrc: %q stays in .envrc; variables are entries of [env]`, "%s …"},
	{sshConfigLine, `the file must be TOML, not an ssh config: %s stays in ~/.ssh/config, and a service names its host: connection = { host = "…" }`, "%s …"},
	{forwardCommand, `the file must be TOML, not a command line: remove it here, and run "localport add %s …" instead`, "%s …"},
	{containerCommand, `the file must be TOML, not a command line of %s: LocalPort starts no container; a service that forwards to what runs begins with a line such as [services.api]`, "%s …"},
	{cloudCommand, `the file must be TOML, not a command line of %s: remove it here, and see "localport recipes" for how to write it`, "%s …"},
	{shellCommandLine, `the file must be TOML, not a command line of %s: a service begins with a line such as [services.api]`, "%s …"},
	{promptLine, `the file must be TOML, not a command line: a service begins with a line such as [services.api]`, "%s …"},
	{blockLine, `the file must be TOML: instead of "%s {", a service begins with a line such as [services.api]`, "%s … {"},
	{callLine, `the file must be TOML: instead of "%s(…)", a service begins with a line such as [services.api]`, "%s(…"},
	{jsonKeyPattern, `TOML separates key and value by "=", and a service begins with a line such as [services.api]; the file must be TOML, not JSON`, ""},
	{plainLine, `a line of text must begin with "#"`, "%s …"},
}

// lineMistake is what is wrong with a line that is not TOML, and how to write it; empty if that is not known. shownLine is what is quoted of the
// line; empty: what can be shown of every line. A value is shown only if its key is one that holds no secret.
func lineMistake(line string, isInEnv bool) (message, shownLine string) {
	code, _, _ := strings.Cut(line, "#")
	code = strings.TrimSpace(code)
	if match := bareValuePattern().FindStringSubmatch(line); match != nil {
		return bareValueMistake(code, match[1], match[2], isInEnv)
	}
	if match := bareListPattern().FindStringSubmatch(line); match != nil && isPublicLineKey(match[1]) {
		return fmt.Sprintf(`text needs quotes: write %s = ["%s"]`, match[1], strings.Join(listSeparator().Split(match[2], -1), `", "`)), code
	}
	if match := yamlPattern().FindStringSubmatch(line); match != nil {
		return yamlMistake(code, match[1], match[2])
	}
	if match := otherEquals().FindStringSubmatch(line); match != nil {
		return fmt.Sprintf(`write one "=" between key and value, not %q`, match[2]), match[1] + " " + match[2] + " …"
	}
	if match := missingValue().FindStringSubmatch(line); match != nil && isPublicLineKey(match[1]) {
		return fmt.Sprintf("the value is missing: write %s = …", match[1]), code
	}
	if match := spacedKey().FindStringSubmatch(line); match != nil && !isSecretName(match[1]) {
		return fmt.Sprintf("a key has no spaces: write %s = …", strings.ReplaceAll(match[1], " ", "_")), match[1] + " = …"
	}
	if message, shownLine = numberMistake(line, code); message != "" {
		return message, shownLine
	}
	if match := quotedHeader().FindStringSubmatch(line); match != nil && (match[1] == "services" || match[1] == "service") {
		return fmt.Sprintf("write [services.%s]", match[2]), code
	}
	if match := spacedHeader().FindStringSubmatch(line); match != nil {
		return fmt.Sprintf("a service name cannot contain a space: write [services.%s-%s]", match[2], match[3]), code
	}
	if match := colonPattern().FindStringSubmatch(line); match != nil {
		return fmt.Sprintf(`TOML separates key and value by "=": write %s = …`, match[1]), ""
	}
	for _, foreign := range foreignLines {
		match := foreign.pattern().FindStringSubmatch(line)
		if match == nil {
			continue
		}
		name := strings.Join(match[1:], "") // of the groups one matches
		if shownLine = strings.TrimSpace(match[0]) + "…"; foreign.shown != "" {
			shownLine = fmt.Sprintf(foreign.shown, name)
		}
		return formatName(foreign.message, name), shownLine
	}
	if match := bareTextPattern().FindStringSubmatch(line); match != nil {
		return bareValueMistake(code, match[1], match[2], isInEnv)
	}
	return "", ""
}

// formatName is a message with a name, if the message has a place for it.
func formatName(message, name string) string {
	if !strings.Contains(message, "%") {
		return message
	}
	return fmt.Sprintf(message, name)
}

// bareValueMistake is for key = value without quotes.
func bareValueMistake(line, key, value string, isInEnv bool) (message, shownLine string) {
	isVariable := isInEnv || dotEnvNames().MatchString(key)
	shownLine = key + " = " + mask
	switch lower := strings.ToLower(value); {
	case lower == "null" || lower == "nil" || lower == "none" || value == "~":
		return "TOML has no null: leave the line out", line
	case isVariable && !isInEnv:
		return fmt.Sprintf(`a variable for shells is an entry of [env], in quotes: write %s = "…" below a line [env], or move the line to %s`, key, EnvName), shownLine
	case isVariable || isSecretName(key):
		return fmt.Sprintf(`text needs quotes: write %s = "…"`, key), shownLine
	case lower == "true" || lower == "false":
		return fmt.Sprintf("true and false are written in lowercase: write %s = %s", key, lower), line
	case key == "command" || key == "login":
		return fmt.Sprintf(`text needs quotes: write %s = ["program", "argument"]`, key), shownLine
	case !isPublicLineKey(key) || !isPublicLineValue(value):
		return fmt.Sprintf(`text needs quotes: write %s = "…"`, key), shownLine
	}
	return fmt.Sprintf("text needs quotes: write %s = %q", key, value), key + " = " + value
}

// textKeys are the keys, with values that are shown, of which a number or a boolean needs quotes too.
var textKeys = []string{"context", "host", "namespace", "remote_host", "resource_name"}

// yamlMistake is for "key: value".
func yamlMistake(line, key, value string) (message, shownLine string) {
	const notYAML = "the file must be TOML, not YAML: "
	switch {
	case strings.HasPrefix(line, "- "):
		return notYAML + "a service begins with a line such as [services.api]", "- " + key + ": …"
	case value == "" && (key == "services" || key == "version"):
		return notYAML + "a service begins with a line such as [services.api]", key + ":"
	case value == "" && (key == connectionKey || key == healthCheckKey || key == "restart_policy"):
		return fmt.Sprintf(notYAML+"write %s = { key = value } on one line", key), key + ":"
	case value == "" && slices.Contains([]string{"tags", "depends_on", "command", "login", "ports"}, key):
		return fmt.Sprintf(notYAML+`write %s = ["…"] on one line`, key), key + ":"
	case value == "":
		return fmt.Sprintf(notYAML+"a table begins with a line such as [services.%s]", key), key + ":"
	case key == "version" && plainPattern().MatchString(value):
		return notYAML + `write version = "1"`, line
	case key == "version":
		return notYAML + `write version = "1"`, key + ": " + mask
	case plainPattern().MatchString(value) && slices.Contains(textKeys, key):
		return fmt.Sprintf(notYAML+"write %s = %q", key, value), line
	case plainPattern().MatchString(value) && !isSecretName(key):
		return fmt.Sprintf(notYAML+"write %s = %s", key, value), line
	}
	return fmt.Sprintf(notYAML+`write %s = "…"`, key), key + ": " + mask
}

// numberMistake is for a number that TOML does not have.
func numberMistake(line, shownLine string) (message, shown string) {
	if match := portRangePattern().FindStringSubmatch(line); match != nil {
		return fmt.Sprintf("a service forwards one port: write %s = %s, and a service for each other port", match[1], match[2]), shownLine
	}
	if match := hugePortPattern().FindStringSubmatch(line); match != nil {
		return "invalid port: must be 1-65535", shownLine
	}
	if match := zerosPattern().FindStringSubmatch(line); match != nil && !isSecretName(match[1]) {
		return fmt.Sprintf("a number cannot begin with 0: write %s = %s", match[1], match[2]), shownLine
	}
	if match := separatorPattern().FindStringSubmatch(line); match != nil && !isSecretName(match[1]) {
		return fmt.Sprintf("write the number without separators: %s = %s%s", match[1], match[2], match[3]), shownLine
	}
	return "", ""
}

// publicLineKeys are the keys, without "_" and in lowercase, whose values are shown where a line is quoted that is not TOML: what the line means, and
// which technology a service has, is not known then.
var publicLineKeys = []string{
	"bridge", "cafile", "clusterhealth", "configfile", "connecttimeout", "context", "dependson", "enabled", "engine", "failurethreshold", "host", "idletimeout", "initialdelay", "interval",
	"keyfile", "kubeconfig", "linger", "localaddress", "localport", "maxattempts", "maxdelay", "method", "metricsport", "multiplex", "namespace", "optional", "path", "port", "ports",
	"protocol", "remotehost", "remoteport", "resourcename", "resourcetype", "reverse", "selector", "sslmode", "socks", "start", "tags", "technology", "timeout", "tlsverify", "type",
	"verbosity", "version",
}

// isPublicLineKey reports whether the last part of a dotted key is one of publicLineKeys.
func isPublicLineKey(key string) bool {
	name := key[strings.LastIndexByte(key, '.')+1:]
	return slices.Contains(publicLineKeys, plainName(name)) && !isSecretName(key) && !strings.HasPrefix(key, "env.") && !dotEnvNames().MatchString(name)
}

// publicLineValue matches what such a key may have for a value; a password before "@" is none.
var publicLineValue = LazyRegexp(`^[A-Za-z0-9_~/.:*{}$-]{1,80}$`)

func isPublicLineValue(value string) bool {
	return publicLineValue().MatchString(value) && !isSecretName(value)
}
