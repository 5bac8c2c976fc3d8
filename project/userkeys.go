package project

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// userKey is a key of a user's config, and its reader.
type userKey struct {
	name string
	keys []userKey // it is a table, of these
	read func(*UserConfig, *node) error
}

var userKeys = []userKey{
	{name: "verbosity", read: readVerbosity},
	{name: "linger", read: func(u *UserConfig, n *node) (err error) {
		u.Linger, err = n.asDuration()
		return err
	}},
	{name: "logs", keys: []userKey{
		{name: "keep", read: readKeep},
		{name: "max_size", read: readMaxSize},
	}},
	{name: "notify", keys: []userKey{
		{name: "command", read: readNotifyCommand},
		{name: "desktop", read: func(u *UserConfig, n *node) error {
			if n.kind != boolKind {
				return n.typeError(wantBool)
			}
			u.Notify.Desktop = n.text == "true"
			return nil
		}},
		{name: "on", read: readNotifyOn},
	}},
}

func parseUserConfig(path string, data []byte) (UserConfig, error) {
	doc, bad := parseDocument(&Files{Root: filepath.Dir(path), Path: path}, path, data)
	if bad != nil {
		return DefaultUserConfig(), &InvalidError{Diagnostics: []Diagnostic{*bad}}
	}
	u := DefaultUserConfig()
	var r report
	r.readUserTable(&u, doc.root, userKeys)
	if found := r.diagnostics(nil); len(found) > 0 {
		return DefaultUserConfig(), &InvalidError{Diagnostics: found}
	}
	return u, nil
}

// readUserTable reads a table of a user's config.
func (r *report) readUserTable(u *UserConfig, table *node, keys []userKey) {
	for _, name := range table.names {
		n := table.members[name]
		key := slices.IndexFunc(keys, func(k userKey) bool { return k.name == name })
		switch {
		case key < 0:
			r.reportKey(n, "unknown key%s", suggestUserKey(name, keys))
		case keys[key].read != nil:
			r.reportError(n, keys[key].read(u, n))
		case n.kind != tableKind:
			r.reportError(n, n.typeError("a table"))
		default:
			r.readUserTable(u, n, keys[key].keys)
		}
	}
}

// reportError reports what is wrong with a value, or with items in it.
func (r *report) reportError(n *node, err error) {
	if err == nil {
		return
	}
	items, ok := errors.AsType[itemErrors](err)
	if !ok {
		items = itemErrors{{n, err}}
	}
	for _, item := range items {
		r.reportValue(item.node, "%v", item.err)
	}
}

// suggestUserKey returns the end of the message about an unknown key. A key of a table may have been written outside of it.
func suggestUserKey(name string, keys []userKey) string {
	var names []string
	for _, key := range keys {
		names = append(names, key.name)
		for _, inner := range key.keys {
			if inner.name == name {
				return didYouMean(key.name + "." + name)
			}
		}
	}
	return suggestNearest(name, names)
}

// suggestNearest returns the end of a message that suggests the nearest name, if there is one.
func suggestNearest(name string, names []string) string {
	if nearest := NearestName(name, names); nearest != "" {
		return didYouMean(nearest)
	}
	return ""
}

// readOneOf reads a string that must be one of words.
func readOneOf(n *node, what string, words []string) (string, error) {
	word, err := n.asString()
	if err == nil && !slices.Contains(words, word) {
		err = fmt.Errorf("invalid %s %s: must be %s%s", what, n.quoted(), joinAlternatives(words), suggestNearest(word, words))
	}
	return word, err
}

func readVerbosity(u *UserConfig, n *node) error {
	word, err := readOneOf(n, "verbosity", []string{string(VerbosityQuiet), string(VerbosityNormal), string(VerbosityVerbose)})
	u.Verbosity = Verbosity(word)
	return err
}

var errInvalidKeep = errors.New(`must be a positive age such as "7d" or "36h", or a number of days`)

func readKeep(u *UserConfig, n *node) (err error) {
	text := n.text
	if n.kind != stringKind {
		days, err := n.asFloat()
		if err != nil {
			return errInvalidKeep
		}
		text = strconv.FormatFloat(days, 'f', -1, 64) + "d"
	}
	if u.Logs.Keep, err = ParseAge(text); err != nil {
		return errInvalidKeep
	}
	return nil
}

// The bounds of max_size: below, every line would be a file of its own.
const (
	minLogSize = 64 << 10
	maxLogSize = 1 << 40
)

var errInvalidSize = errors.New(`must be a size such as "512KB", "4MB" or "1GB", or a number of bytes, and at least "64KB"`)

func readMaxSize(u *UserConfig, n *node) error {
	size, unit := 0.0, int64(1)
	var err error
	switch n.kind {
	case integerKind:
		size, err = n.asFloat()
	case stringKind:
		var number string
		number, unit = splitUnit(n.text)
		size, err = strconv.ParseFloat(number, 64)
	default:
		return errInvalidSize
	}
	size *= float64(unit)
	if err != nil || !(size >= minLogSize && size <= maxLogSize) {
		return errInvalidSize
	}
	u.Logs.MaxSize = int64(size)
	return nil
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

func readNotifyCommand(u *UserConfig, n *node) error {
	if n.kind != arrayKind {
		return n.typeError(wantStrings)
	}
	if len(n.items) == 0 {
		return errors.New(`must not be empty, for example ["say", "{service} {event}"]`)
	}
	var bad itemErrors
	for i, item := range n.items {
		if item.kind != stringKind || i == 0 { // an empty argument is fine, an empty program is not
			_, err := item.asString()
			bad = bad.append(item, err)
		}
		u.Notify.Command = append(u.Notify.Command, item.text)
	}
	if bad != nil {
		return bad
	}
	if program := u.Notify.Command[0]; strings.HasPrefix(program, "~") {
		path, err := expandPath("", program)
		u.Notify.Command[0] = path
		return err
	}
	return nil
}

func readNotifyOn(u *UserConfig, n *node) error {
	if n.kind != arrayKind {
		return n.typeError(wantStrings)
	}
	u.Notify.On = []string{}
	var bad itemErrors
	for _, item := range n.items {
		word, err := readOneOf(item, "event", EventKinds)
		bad = bad.append(item, err)
		u.Notify.On = append(u.Notify.On, word)
	}
	return bad.errOrNil()
}
