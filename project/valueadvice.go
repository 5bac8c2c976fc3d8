package project

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
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

// durationAdvice is for a duration with a unit as people spell it.
func durationAdvice(text string) string {
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
	if !strings.Contains(text, "://") {
		host, port, err := net.SplitHostPort(text)
		_, notNumber := strconv.ParseUint(port, 10, 16)
		return host, port, err == nil && host != "" && notNumber == nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil {
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
