package project

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// This file says what to write instead of a value of the wrong type or form.

// isLiteral reports whether the string is as in the file: not what interpolation or escapes make of it, and no secret.
func (n *node) isLiteral() bool {
	return n.kind == stringKind && !n.isSecret && bytes.HasPrefix(n.doc.data[min(n.valueOffset+1, len(n.doc.data)):], []byte(n.text))
}

// mayAssignSecret reports whether the text is a command line, or another list of names with values, in which one has the name of a secret.
func (n *node) mayAssignSecret() bool {
	return n.kind == stringKind && strings.ContainsAny(n.text, " =:") && isSecretName(n.text) && !isOnlyReferences(n)
}

// wordsForTrue and wordsForFalse are what YAML, and people, write for booleans.
var (
	wordsForTrue  = []string{"true", "yes", "on", "y", "1", "always"}
	wordsForFalse = []string{"false", "no", "off", "n", "0", "never"}
)

// boolAdvice is for a string where a boolean is wanted.
func (n *node) boolAdvice() string {
	word := strings.ToLower(n.text)
	switch {
	case !n.isLiteral():
		return ""
	case word == n.text && (word == "true" || word == "false"):
		return "; remove the quotes"
	case slices.Contains(wordsForTrue, word):
		return "; write true"
	case slices.Contains(wordsForFalse, word):
		return "; write false"
	}
	return ""
}

// listAdvice is for a string, or docker compose's table of services, where an array of strings is wanted.
func (n *node) listAdvice() string {
	var words []string
	switch {
	case n.kind == tableKind:
		for _, m := range n.children {
			words = append(words, m.name)
		}
	case !n.isLiteral():
		return ""
	default:
		words = strings.FieldsFunc(n.text, func(r rune) bool { return r == ',' || r == ' ' })
	}
	return fmt.Sprintf("; write %s = %s", n.name, n.quoteWords(words))
}

// shellPattern matches what only a shell understands.
var shellPattern = LazyRegexp("[|&;<>()`\"'\\\\*?]")

// commandLineAdvice is for a string where a program with its arguments is wanted.
func (n *node) commandLineAdvice() string {
	switch {
	case !n.isLiteral() || strings.TrimSpace(n.text) == "":
		return ""
	case n.mayAssignSecret():
		return fmt.Sprintf(`; write %s = ["program", "argument"]`, n.name)
	case shellPattern().MatchString(n.text):
		return fmt.Sprintf("; write the program and each argument as a string, or %s = [\"sh\", \"-c\", \"…\"]", n.name)
	}
	return fmt.Sprintf("; write %s = %s", n.name, n.quoteWords(strings.Fields(n.text)))
}

// quoteWords returns an array of strings in TOML, without the document's secrets.
func (n *node) quoteWords(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quoteMasked(word, n.doc.secrets)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// spelledPortPattern matches a port as people write it in a string: with a colon, a protocol or in another base.
var spelledPortPattern = LazyRegexp(`^\s*:?(0[xX][0-9a-fA-F]+|[0-9][0-9_,]*)(?:\.0+)?\s*(?:/\w+)?\s*$`)

var portsPattern = LazyRegexp(`^\s*[0-9]+\s*(?:-|,|\.\.|to|and)\s*[0-9]+`)

// loopbackAdvice is for a local address that is written as a name or with a port.
func loopbackAdvice(text string) string {
	if match := listenPattern().FindStringSubmatch(text); match != nil {
		return "; write the port in local_port = " + match[1]
	}
	switch text {
	case "localhost":
		return `; write "127.0.0.1", or leave the line out`
	case "*", "all", "any", "lan":
		return `; other machines cannot connect; for containers on this machine write bridge = "auto"`
	}
	return ""
}

// startAdvice is for a value of start that says it in another word.
func (n *node) startAdvice() string {
	switch word := strings.ToLower(n.text); {
	case n.kind != stringKind && n.kind != boolKind:
	case slices.Contains([]string{"lazy", "demand", "auto", "connect"}, word):
		return fmt.Sprintf("; write start = %q", startOnDemand)
	case slices.Contains(append([]string{"eager", "boot", "automatic"}, wordsForTrue[:5]...), word) && n.kind == boolKind || word == "eager" || word == "automatic":
		return fmt.Sprintf("; write start = %q", startAlways)
	case slices.Contains(append([]string{"manual"}, wordsForFalse...), word):
		return "; a service that does not start by itself is written enabled = false"
	}
	return ""
}

// healthCheckAdvice is for a health check that is no table.
func (n *node) healthCheckAdvice() string {
	switch {
	case n.kind == boolKind && n.text == "true":
		return "; leave the line out: connecting is the default check"
	case n.kind == boolKind, n.kind == stringKind && slices.Contains(wordsForFalse, strings.ToLower(n.text)):
		return `; write health_check = { type = "none" }`
	case n.kind == stringKind:
		u, err := url.Parse(n.text)
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && n.isLiteral() {
			return fmt.Sprintf("; write health_check = { type = %q, path = %q }", u.Scheme, cmp.Or(u.Path, "/"))
		}
	}
	return ""
}

// restartPolicyAdvice is for a restart policy that is no table.
func (n *node) restartPolicyAdvice() string {
	switch word := strings.ToLower(n.text); {
	case n.kind != stringKind && n.kind != boolKind:
	case slices.Contains(wordsForFalse, word):
		return "; write restart_policy = { enabled = false }"
	case slices.Contains(wordsForTrue, word), word == "on-failure", word == "unless-stopped":
		return "; leave the line out: a tunnel that ends is replaced by itself"
	}
	return ""
}

var sshOptionPattern = LazyRegexp(`^(?:-o\s*)?([A-Za-z]+)[= ](\w+)$`)

// tableAdvice is for another value where a table of strings is wanted.
func (n *node) tableAdvice() string {
	text := n.text
	if n.kind == arrayKind && len(n.children) > 0 {
		text = n.children[len(n.children)-1].text
	}
	match := sshOptionPattern().FindStringSubmatch(text)
	if match == nil || n.name != "options" || isSecretName(text) {
		return fmt.Sprintf("; write %s = { KEY = \"…\" }", n.name)
	}
	return fmt.Sprintf("; write options = { %s = %q }", match[1], match[2])
}

// singleAdvice is for an array or a table where a string is wanted.
func (n *node) singleAdvice() string {
	var words []string
	for _, m := range n.children {
		if m.kind != stringKind || m.isSecret {
			return ""
		}
		word := m.text
		if n.kind == tableKind {
			word = m.name + "=" + m.text
		}
		words = append(words, word)
	}
	switch {
	case n.kind == tableKind && n.name == "selector", n.kind == arrayKind && n.name == "jump", len(words) == 1 && n.kind == arrayKind && isPublicLineKey(n.name):
		return fmt.Sprintf("; write %s = %s", n.name, quoteMasked(strings.Join(words, ","), n.doc.secrets))
	case n.kind == arrayKind && len(words) > 1:
		return "; only one is possible"
	}
	return ""
}

// portAdvice is what to write instead of a value that is no port; empty if that is not known.
func (n *node) portAdvice() string {
	if n.kind == arrayKind && len(n.children) > 1 {
		return "; a service forwards one port: write one, and a service for each other"
	}
	if n.kind == arrayKind && len(n.children) == 1 {
		return n.children[0].portAdviceFor(n.name)
	}
	return n.portAdviceFor(n.name)
}

func (n *node) portAdviceFor(key string) string {
	if n.kind != integerKind && n.kind != floatKind && !n.isLiteral() {
		return ""
	}
	if advice := n.portPairAdvice(); advice != "" {
		return advice
	}
	match := spelledPortPattern().FindStringSubmatch(n.text)
	if match == nil {
		if n.kind == stringKind && portsPattern().MatchString(n.text) {
			return "; a service forwards one port: write one, and a service for each other"
		}
		return ""
	}
	text := strings.NewReplacer("_", "", ",", "").Replace(match[1])
	base := 10
	if len(text) > 2 && (text[1] == 'x' || text[1] == 'X') {
		text, base = text[2:], 16
	}
	if port, err := strconv.ParseUint(text, base, 16); err == nil && port > 0 {
		return fmt.Sprintf("; write %s = %d", key, port)
	}
	return ""
}

var spelledDurationPattern = LazyRegexp(`(?i)^([0-9]+(?:\.[0-9]+)?)\s*(ms|milli\w*|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)$`)

// minutesPattern matches minutes and seconds of which the second unit is missing.
var minutesPattern = LazyRegexp(`^[0-9]+m[0-9]+$`)

// durationAdvice is for a duration with a unit as people spell it.
func durationAdvice(text string) string {
	if minutesPattern().MatchString(text) {
		return fmt.Sprintf("; write %q", text+"s")
	}
	match := spelledDurationPattern().FindStringSubmatch(text)
	if match == nil {
		return ""
	}
	number, unit := match[1], strings.ToLower(match[2])
	switch {
	case unit == "ms" || strings.HasPrefix(unit, "milli"):
		unit = "ms"
	case unit[0] == 'd':
		days, _ := strconv.ParseFloat(number, 64)
		number, unit = strconv.FormatFloat(days*24, 'f', -1, 64), "h"
	default:
		unit = unit[:1]
	}
	if number == "0" {
		return ""
	}
	return fmt.Sprintf("; write %q", number+unit)
}

// singleBracketsAdvice is for an array of tables, [[x]], where a table is wanted.
func (n *node) singleBracketsAdvice() string {
	if n.kind != arrayKind || len(n.children) == 0 || n.children[0].kind != tableKind {
		return ""
	}
	header := n.path()
	if header == "services" {
		name := n.children[0].member("name")
		if name == nil || name.kind != stringKind || !serviceNamePattern().MatchString(name.text) {
			return "; write a table for each, such as [services.api]"
		}
		header += "." + name.text
		return fmt.Sprintf("; write [%s] instead of [[services]] and name", header)
	}
	return fmt.Sprintf("; write it with single brackets: [%s]", header)
}

// splitURL returns the host and the port of a URL or of HOST:PORT; the port may be empty.
func splitURL(text string) (host, port string, ok bool) {
	if !strings.Contains(text, "://") && strings.Contains(text, "@") {
		return "", "", false
	}
	if !strings.Contains(text, "://") {
		host, port, err := net.SplitHostPort(text)
		_, notNumber := strconv.ParseUint(port, 10, 16)
		return host, port, err == nil && host != "" && notNumber == nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", "", false
	}
	return u.Hostname(), u.Port(), true
}

// hostAdvice is for a host that is written as a URL or with a port.
func hostAdvice(text, portKey string) string {
	host, port, ok := splitURL(text)
	switch {
	case !ok:
		return ""
	case port == "":
		return fmt.Sprintf("; write %q", host)
	}
	return fmt.Sprintf("; write %q, and %s = %s", host, portKey, port)
}

// hostTableAdvice is for a connection, or a key of a service, that is a host, a URL or HOST:PORT; empty for another value. key is the connection's key
// for the host.
func (n *node) hostTableAdvice(key string) string {
	host, port, ok := splitURL(n.text)
	if u, err := url.Parse(n.text); key == "host" && ok && err == nil && n.isLiteral() && u.Host != "" {
		table := fmt.Sprintf("host = %q", host)
		if _, hasPassword := u.User.Password(); u.User.Username() != "" && !hasPassword {
			table += fmt.Sprintf(", user = %q", u.User.Username())
		}
		if port != "" {
			table += ", port = " + port
		}
		return fmt.Sprintf("; write connection = { %s }", table)
	}
	if !ok && !strings.ContainsAny(n.text, " /:@") {
		host, ok = n.text, n.text != ""
	}
	switch {
	case !ok || !n.isLiteral():
		return ""
	case port == "":
		return fmt.Sprintf("; write connection = { %s = %q }", key, host)
	}
	return fmt.Sprintf("; write connection = { %s = %q } and remote_port = %s", key, host, port)
}

// readEnvTable is the reader of [env], which reads no entry yet.
func readEnvTable(n *node) error {
	if n.kind != tableKind {
		return fmt.Errorf(`%w; write a line [env], and below it a line NAME = "value" for each variable`, n.typeError("a table"))
	}
	return nil
}

// envValueAdvice is for an entry of [env] that is a table or an array.
func envValueAdvice(n *node) string {
	switch n.kind {
	case tableKind:
		return "; variables are the whole project's: write them below [env] itself"
	case arrayKind:
		return `; write a line NAME = "value" for each variable`
	}
	return ""
}

// variableNameAdvice is for the name of a variable with a dash or a dot.
func variableNameAdvice(name string) string {
	if plain := strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(name); plain != name && variableNamePattern().MatchString(plain) {
		return fmt.Sprintf("; write %s", plain)
	}
	return ""
}

// foreignVariables are how other languages refer to a variable, or to what a command prints.
var foreignVariables = []struct {
	pattern func() *regexp.Regexp
	advice  string
}{
	{LazyRegexp(`\$\([^)]*\)|` + "`[^`]+`"), "no command is run in a value: set the variable in your shell or in " + EnvName + ", and write ${NAME}"},
	{LazyRegexp(`\{\{[^}]*\}\}`), `"{{…}}" is not replaced: write ${NAME} for a variable, ${SERVICE.port} for a service`},
	{LazyRegexp(`%[A-Z][A-Z0-9_]*%`), `"%NAME%" is not replaced: write ${NAME} for the variable`},
	{LazyRegexp(`(?:^|[^$])\{[A-Za-z_][\w-]*\.(?:port|host|addr)\}`), `"{SERVICE.port}" is not replaced: write ${SERVICE.port}`},
}

// adviseForeignVariable warns of a reference in another language, which is not replaced.
func (p *parser) adviseForeignVariable(n *node) {
	for _, foreign := range foreignVariables {
		if foreign.pattern().MatchString(n.text) {
			p.advice.reportHidden(n, "%s", foreign.advice)
			return
		}
	}
}

// unbracedPattern matches $$, ${ and, as a group, $NAME.
var unbracedPattern = LazyRegexp(`\$\$|\$\{|\$([A-Za-z_][A-Za-z0-9_]*)`)

// unbracedVariable returns the first $NAME in text, which is not replaced; empty if there is none.
func unbracedVariable(text string) (name string) {
	for _, match := range unbracedPattern().FindAllStringSubmatch(text, -1) {
		if match[1] != "" {
			return match[1]
		}
	}
	return ""
}

// shells are the programs that replace $NAME themselves.
var shells = []string{"sh", "bash", "zsh", "dash", "ksh", "fish"}

// adviseUnbraced warns of $NAME, which only ${NAME} would replace. Of a secret it says so only if the value is nothing else, and does not name it.
func (p *parser) adviseUnbraced(n *node) {
	name := unbracedVariable(n.text)
	isArgument := n.index > 0 && n.parent.kind == arrayKind
	switch {
	case name == "", isArgument && slices.Contains(shells, filepath.Base(n.parent.children[0].text)):
	case !n.isSecret:
		p.advice.reportValue(n, `"$%s" is not replaced: write ${%s} for the variable, or "$$%s" for the text itself`, name, name, name)
	case n.text == "$"+name:
		p.advice.reportValue(n, `"$" without braces is not replaced: write ${NAME} for a variable`)
	}
}
