package project

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// userFields returns the keys of a user's config, with readers that store into u.
func userFields(u *UserConfig) []field {
	verbosities := []string{string(VerbosityQuiet), string(VerbosityNormal), string(VerbosityVerbose)}
	return []field{
		{name: "verbosity", read: storeIn((*string)(&u.Verbosity), oneOf("verbosity", verbosities))},
		{name: "linger", read: readLinger(&u.Linger, &u.KeepConnections)},
		{name: "logs", fields: []field{
			{name: "keep", read: storeIn(&u.Logs.Keep, (*node).asAge)},
			{name: "max_size", read: storeIn(&u.Logs.MaxSize, (*node).asSize)},
		}},
		{name: "notify", fields: []field{
			{name: "command", maskScope: maskArguments, read: storeIn(&u.Notify.Command, (*node).asNotifyCommand)},
			{name: "desktop", read: storeIn(&u.Notify.Desktop, (*node).asBool)},
			{name: "on", read: storeIn(&u.Notify.On, listOf(oneOf("event", EventKinds)))},
		}},
		{name: "trust", fields: []field{
			{name: "terminal", read: storeIn(&u.Trust.Terminal, (*node).asBool)},
		}},
	}
}

func parseUserConfig(path string, data []byte) (UserConfig, error) {
	u := DefaultUserConfig()
	doc, invalid := parseDocument(&Files{Root: filepath.Dir(path), Path: path}, path, data)
	if invalid != nil {
		return u, &InvalidError{Diagnostics: []Diagnostic{*invalid}}
	}
	var r report
	fields := userFields(&u)
	reader := newTableReader(&r, fields)
	reader.isUser = true
	reader.readTable(doc.root)
	if len(r.found) > 0 {
		newPublicKeys(fields).markPublic(doc.root)
	}
	if found := r.diagnostics(nil); len(found) > 0 {
		return DefaultUserConfig(), &InvalidError{Diagnostics: found}
	}
	return u, nil
}

var errInvalidKeep = errors.New(`must be a positive age such as "7d" or "36h", or a number of days`)

func (n *node) asAge() (time.Duration, error) {
	text := n.text
	if n.kind != stringKind {
		days, err := n.asFloat()
		if err != nil {
			return 0, errInvalidKeep
		}
		text = strconv.FormatFloat(days, 'f', -1, 64) + "d"
	}
	age, err := ParseAge(text)
	if err != nil {
		return 0, errInvalidKeep
	}
	return age, nil
}

// The bounds of max_size: below, every line would be a file of its own.
const (
	minLogSize = 64 << 10
	maxLogSize = 1 << 40
)

var errInvalidSize = errors.New(`must be a size such as "512KB", "4MB" or "1GB", or a number of bytes, and at least "64KB"`)

// asSize returns a number of bytes.
func (n *node) asSize() (int64, error) {
	var size float64
	var err error
	switch n.kind {
	case integerKind:
		size, err = n.asFloat()
	case stringKind:
		number, unit := splitUnit(n.text)
		size, err = strconv.ParseFloat(number, 64)
		size *= float64(unit)
	}
	if err != nil || !(size >= minLogSize && size <= maxLogSize) {
		return 0, errInvalidSize
	}
	return int64(size), nil
}

// splitUnit splits a size into its number and its unit in bytes.
func splitUnit(text string) (number string, unit int64) {
	for i, suffix := range []string{"KB", "MB", "GB"} {
		if number, ok := strings.CutSuffix(strings.ToUpper(text), suffix); ok {
			return strings.TrimSpace(number), 1 << (10 * (i + 1))
		}
	}
	return text, 1
}

func (n *node) asNotifyCommand() ([]string, error) {
	argv, err := n.asCommandLine()
	if errors.Is(err, errEmpty) {
		return nil, errors.New(`must be a command such as ["say", "{service} {event}"]`)
	}
	if err == nil && strings.HasPrefix(argv[0], "~") {
		argv[0], err = expandPath("", argv[0])
	}
	return argv, err
}
