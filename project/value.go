package project

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// quoted returns the node's text for a message: masked, in quotes, and truncated.
func (n *node) quoted() string {
	if n.isSecret {
		return strconv.Quote(mask)
	}
	return quoteMasked(n.text, n.doc.secrets)
}

// typeError returns the error about a value of the wrong type.
func (n *node) typeError(what string) error {
	return fmt.Errorf("must be %s, not %s%s", what, n.kind, n.quotingAdvice(what))
}

// quotingAdvice returns the end of the message about a value that lacks quotes, or must not have them.
func (n *node) quotingAdvice(want string) string {
	switch n.kind {
	case integerKind, floatKind, boolKind, dateKind:
		if want == "a string" {
			return "; put it in quotes"
		}
	case stringKind:
		_, err := strconv.Atoi(n.text)
		switch isInteger := err == nil; {
		case want == wantInteger && isInteger && n.isLiteral():
			return "; remove the quotes"
		case want == wantBool:
			return n.boolAdvice()
		case want == wantStrings:
			return n.listAdvice()
		case want == wantCommandLine:
			return n.commandLineAdvice()
		}
	case arrayKind:
		if want == "a string" {
			return n.singleAdvice()
		}
		return n.singleBracketsAdvice()
	case tableKind:
		switch want {
		case wantStrings:
			return n.listAdvice()
		case "a string":
			return n.singleAdvice()
		}
	}
	return ""
}

// What a value must be, in the words of messages.
const (
	wantInteger = "an integer"
	wantBool    = "true or false"
	wantStrings = `an array of strings such as ["a", "b"]`

	wantCommandLine = `an array of strings, the program and its arguments`
)

var errEmpty = errors.New("must not be empty")

func (n *node) asString() (string, error) {
	switch {
	case n.kind != stringKind:
		return "", n.typeError("a string")
	case n.text == "":
		return "", errEmpty
	}
	return n.text, nil
}

func (n *node) asBool() (bool, error) {
	if n.kind != boolKind {
		return false, n.typeError(wantBool)
	}
	return n.text == "true", nil
}

func (n *node) asInteger() (int64, error) {
	if n.kind != integerKind {
		return 0, n.typeError(wantInteger)
	}
	return strconv.ParseInt(n.text, 0, 64) // with base 0 Go's notation is TOML's, underscores included
}

// integerAtLeast returns a parser of an integer that is not less than minimum.
func integerAtLeast(minimum int64) func(*node) (int, error) {
	return func(n *node) (int, error) {
		i, err := n.asInteger()
		switch {
		case err == nil && i < minimum:
			err = fmt.Errorf("must be %d or more", minimum)
		case err == nil && i > math.MaxInt32:
			err = fmt.Errorf("must be %d or less", math.MaxInt32)
		}
		return int(i), err
	}
}

func (n *node) asFloat() (float64, error) {
	switch n.kind {
	case integerKind:
		i, err := n.asInteger()
		return float64(i), err
	case floatKind:
		return strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
	}
	return 0, n.typeError("a number")
}

func (n *node) asMultiplier() (float64, error) {
	f, err := n.asFloat()
	if err == nil && !(f >= 1 && f <= 1000) {
		err = errors.New("must be between 1 and 1000")
	}
	return f, err
}

// asScalar reads a string, an integer or a boolean.
func (n *node) asScalar() (any, error) {
	switch n.kind {
	case integerKind:
		return n.asInteger()
	case boolKind:
		return n.asBool()
	}
	return n.asString()
}

// asArgument reads an argument for a program, which must not look like an option.
func (n *node) asArgument() (string, error) {
	text, err := n.asString()
	if strings.HasPrefix(text, "-") {
		err = fmt.Errorf(`%s must not begin with "-"`, n.quoted())
		if after, ok := strings.CutPrefix(text, "-l "); ok && n.isLiteral() {
			err = fmt.Errorf("%w; write %q", err, after)
		}
	}
	return text, err
}

var blankPattern = LazyRegexp(`[\s\x00-\x1f\x7f]`)

// asWord reads an argument without spaces, such as a name or a host.
func (n *node) asWord() (string, error) {
	text, err := n.asArgument()
	if err == nil && blankPattern().MatchString(text) {
		err = fmt.Errorf("%s must not contain spaces or control characters", n.quoted())
	}
	return text, err
}

// oneOf returns a parser of a string that must be one of words; what is the noun for it in messages.
func oneOf(what string, words []string) func(*node) (string, error) {
	return func(n *node) (string, error) {
		word, err := n.asString()
		if err == nil && !slices.Contains(words, word) {
			return "", fmt.Errorf("invalid %s %s: must be %s%s", what, n.quoted(), joinAlternatives(words), suggestWord(word, words))
		}
		return word, err
	}
}

// asMaxAttempts reads the number of attempts in a row.
func (n *node) asMaxAttempts() (int, error) {
	count, err := integerAtLeast(0)(n)
	if n.kind == integerKind && err != nil && strings.HasPrefix(n.text, "-") {
		err = errors.New("must be 0 or more; 0 means no limit")
	}
	return count, err
}

// asMaxConnections reads how many clients are served at once.
func (n *node) asMaxConnections() (int, error) {
	count, err := integerAtLeast(1)(n)
	if n.kind == integerKind && err != nil && count < 1 {
		err = errors.New("must be 1 or more; without the key there is no limit")
	}
	return count, err
}

func (n *node) asOnDemand() (bool, error) {
	if advice := n.startAdvice(); advice != "" {
		return false, fmt.Errorf("must be %q or %q%s", startAlways, startOnDemand, advice)
	}
	start, err := oneOf("start", []string{startAlways, startOnDemand})(n)
	return start == startOnDemand, err
}

// asRegexp reads the text of a regular expression.
func (n *node) asRegexp() (string, error) {
	text, err := n.asString()
	if err != nil {
		return "", err
	}
	_, err = regexp.Compile(text)
	if invalid, ok := errors.AsType[*syntax.Error](err); ok {
		err = fmt.Errorf("invalid regular expression %s: %s", n.quoted(), invalid.Code)
	}
	return text, err
}

var errDuration = errors.New(`must be a positive duration such as "30s" or "5m", or a number of seconds`)

func (n *node) asDuration() (time.Duration, error) {
	switch n.kind {
	case integerKind, floatKind:
		f, err := n.asFloat()
		if err != nil {
			return 0, errDuration
		}
		return durationOfSeconds(f)
	case stringKind:
		d, err := ParseDuration(n.text)
		if err != nil {
			err = fmt.Errorf("%w%s", err, durationAdvice(n.text))
		}
		return d, err
	}
	return 0, errDuration
}

// lingerConnections is the value of linger that keeps established connections.
const lingerConnections = "connections"

var errLinger = errors.New(`must be a positive duration such as "30s" or "5m", a number of seconds, or "connections"`)

// readLinger returns a reader of linger: a duration, or "connections", which leaves the duration as it is.
func readLinger(duration *time.Duration, keepConnections *bool) reader {
	return func(n *node) error {
		if n.kind == stringKind && n.text == lingerConnections {
			*keepConnections = true
			return nil
		}
		d, err := n.asDuration()
		if err != nil {
			if n.kind == stringKind {
				if slices.Contains([]string{"forever", "never", "infinite", "always", "infinity"}, n.text) {
					return fmt.Errorf(`%w; "localport start" keeps a project running without a shell`, errLinger)
				}
				return fmt.Errorf("%w%s%s", errLinger, SuggestNearest(n.text, []string{lingerConnections}), durationAdvice(n.text))
			}
			if n.kind == integerKind && n.text == "0" {
				return fmt.Errorf(`%w; write "1ms" for a project that ends at once`, errLinger)
			}
			return errLinger
		}
		*duration, *keepConnections = d, false
		return nil
	}
}

// ParseDuration parses "30s" or a number of seconds. The result is always positive.
func ParseDuration(text string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return durationOfSeconds(f)
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, errDuration
}

func durationOfSeconds(f float64) (time.Duration, error) {
	d := f * float64(time.Second)
	if !(d >= 1 && d < math.MaxInt64) { // so that NaN fails too
		return 0, errDuration
	}
	return time.Duration(d), nil
}

func (n *node) asPort() (int, error) {
	i, err := n.asInteger()
	switch {
	case n.kind != integerKind && n.kind != stringKind:
		return 0, fmt.Errorf("%w%s", err, n.portAdvice())
	case err == nil && (i < 1 || i > 65535):
		return 0, fmt.Errorf("invalid port %d: must be 1-65535", i)
	}
	return int(i), err
}

func (s *Service) readLocalPort(n *node) (err error) {
	switch {
	case n.kind == stringKind && n.text == "auto":
		s.AutoPort = true
		return nil
	case n.kind == stringKind:
		return fmt.Errorf(`invalid port %s: must be "auto" or 1-65535 without quotes%s`, n.quoted(), n.portAdvice())
	case n.kind != integerKind:
		return fmt.Errorf("%w%s", n.typeError(`a port number (1-65535) or "auto"`), n.portAdvice())
	}
	s.LocalPort, err = n.asPort()
	return err
}

var portNamePattern = LazyRegexp(`^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$`)

// IsPortName reports whether text is the name of a port in Kubernetes (IANA_SVC_NAME, RFC 6335, 5.1), which has a letter.
func IsPortName(text string) bool {
	return portNamePattern().MatchString(text) && strings.ContainsAny(text, "abcdefghijklmnopqrstuvwxyz")
}

// readRemotePort reads remote_port. Only the given technologies support port names.
func (s *Service) readRemotePort(n *node, namingTechnologies []string) error {
	if n.kind == integerKind {
		port, err := n.asPort()
		s.RemotePort = strconv.Itoa(port)
		return err
	}
	value, err := n.asString()
	if err != nil {
		return fmt.Errorf("%w%s", n.typeError("a port number (1-65535) or a port name"), n.portAdvice())
	}
	s.RemotePort = value
	port, err := strconv.Atoi(value)
	isNumber := err == nil
	switch {
	case isNumber && port >= 1 && port <= 65535 && strconv.Itoa(port) == value:
		return nil
	case isNumber, len(namingTechnologies) == 0:
		return fmt.Errorf("invalid port %s: must be 1-65535%s", n.quoted(), n.portAdvice())
	case !slices.Contains(namingTechnologies, s.Technology) && s.Technology != "":
		return fmt.Errorf("invalid port %s: must be 1-65535 (only %s supports port names)%s", n.quoted(), joinAlternatives(namingTechnologies), n.portAdvice())
	case !IsPortName(value):
		return fmt.Errorf("invalid port %s: must be 1-65535 or a name of lowercase letters, digits and dashes%s", n.quoted(), n.portAdvice())
	}
	return nil
}

func (n *node) asLoopbackAddress() (netip.Addr, error) {
	value, err := n.asString()
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := netip.ParseAddr(value)
	address = address.Unmap()
	if err == nil && !address.IsLoopback() && address.Zone() == "" {
		return netip.Addr{}, fmt.Errorf(`invalid address %s: must be a loopback address such as 127.0.0.2; for containers on this machine write bridge = "auto"`, n.quoted())
	}
	if err != nil || address.Zone() != "" || !address.IsLoopback() {
		return netip.Addr{}, fmt.Errorf("invalid address %s: must be a loopback address such as 127.0.0.2%s", n.quoted(), loopbackAdvice(value))
	}
	return address, nil
}

// interfaceNamePattern matches the name of a network interface (dev_valid_name in the kernel's net/core/dev.c), in ASCII.
var interfaceNamePattern = LazyRegexp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)

// asBridge reads the bridge on whose address containers can connect; empty: none.
func (n *node) asBridge() (string, error) {
	value, err := n.asString()
	if err != nil {
		return "", err
	}
	if value == bridgeNone {
		return "", nil
	}
	addr, err := netip.ParseAddr(value)
	addr = addr.Unmap()
	switch {
	case err != nil && value != "*" && interfaceNamePattern().MatchString(value):
		return value, nil
	case value == "*", err == nil && addr.IsUnspecified():
		return "", fmt.Errorf(`%s is every address of this machine: other machines could connect; write "auto", or the bridge's name or address`, n.quoted())
	case err != nil:
		return "", fmt.Errorf(`invalid bridge %s: must be "auto", "none", the name of a bridge such as "docker0", or its address`, n.quoted())
	case addr.IsLoopback():
		return "", fmt.Errorf(`%s is this machine's loopback, which no container reaches; write "auto", or the bridge's name or address`, n.quoted())
	case addr.Zone() != "" || !addr.IsPrivate():
		return "", fmt.Errorf(`%s is not a private address (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7): other machines could connect; write "auto", or the bridge's name or address`, n.quoted())
	}
	return addr.String(), nil
}

// asPath reads the path of a file, and makes it absolute.
func (n *node) asPath() (string, error) {
	name, err := n.asString()
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(name, "\n\r") || strings.Contains(name, "-----BEGIN") {
		n.isSecret = true
		return "", errors.New("must be the path of a file, not its contents")
	}
	files := n.doc.files
	path, err := expandPath(files.Root, name)
	if err != nil {
		return "", err
	}
	if relPath := locate(files.Root, path).relPath; relPath != "" && files.ReferencedFiles != nil {
		if _, isCovered := files.ReferencedFiles[relPath]; !isCovered {
			return "", errors.New(`a path inside the project must not contain ${…}: "localport allow" could not cover the file`)
		}
	}
	return path, nil
}

// requireVersion checks the version of the config's format.
func requireVersion(n *node) error {
	if n.kind != stringKind && (n.text == "1" || n.text == "1.0") {
		return errors.New(`must be "1", in quotes`)
	}
	if n.kind != stringKind || n.text != "1" && n.text != "1.0" {
		return errors.New(`must be "1", the only supported version`)
	}
	return nil
}

// requireTable returns a reader that accepts any table and stores nothing.
func requireTable(want string) reader {
	return func(n *node) error {
		if n.kind != tableKind {
			return n.typeError(want)
		}
		return nil
	}
}
