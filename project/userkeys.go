package project

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// userKey is a key of a user's config, and how it is read.
type userKey struct {
	name string
	keys []userKey // it is a table, of these
	read func(*User, *node) error
}

var userKeys = []userKey{
	{name: "verbosity", read: readVerbosity},
	{name: "linger", read: func(u *User, n *node) (err error) {
		u.Linger, err = n.duration()
		return err
	}},
	{name: "logs", keys: []userKey{
		{name: "keep", read: readKeep},
		{name: "max_size", read: readMaxSize},
	}},
	{name: "notify", keys: []userKey{
		{name: "command", read: readNotifyCommand},
		{name: "desktop", read: func(u *User, n *node) error {
			if n.kind != boolKind {
				return n.want(wantBool)
			}
			u.Notify.Desktop = n.text == "true"
			return nil
		}},
		{name: "on", read: readNotifyOn},
	}},
}

func parseUser(path string, data []byte) (User, error) {
	doc, bad := parseDocument(&Files{Root: filepath.Dir(path), Path: path}, path, data)
	if bad != nil {
		return DefaultUser(), &Invalid{Diagnostics: []Diagnostic{*bad}}
	}
	u := DefaultUser()
	var r report
	r.user(&u, doc.root, userKeys)
	if found := r.diagnostics(nil); len(found) > 0 {
		return DefaultUser(), &Invalid{Diagnostics: found}
	}
	return u, nil
}

// user reads a table of a user's config.
func (r *report) user(u *User, table *node, keys []userKey) {
	for _, name := range table.names {
		n := table.members[name]
		key := slices.IndexFunc(keys, func(k userKey) bool { return k.name == name })
		switch {
		case key < 0:
			r.key(n, "unknown key%s", nearestKey(name, keys))
		case keys[key].read != nil:
			r.wrong(n, keys[key].read(u, n))
		case n.kind != tableKind:
			r.wrong(n, n.want("a table"))
		default:
			r.user(u, n, keys[key].keys)
		}
	}
}

// wrong reports what is wrong with a value, or with items in it.
func (r *report) wrong(n *node, err error) {
	if err == nil {
		return
	}
	items, ok := errors.AsType[badItems](err)
	if !ok {
		items = badItems{{n, err}}
	}
	for _, item := range items {
		r.value(item.node, "%v", item.err)
	}
}

// nearestKey is the end of the message about an unknown key. A key of a table may have been put outside of it.
func nearestKey(name string, keys []userKey) string {
	var names []string
	for _, key := range keys {
		names = append(names, key.name)
		for _, inner := range key.keys {
			if inner.name == name {
				return didYouMean(key.name + "." + name)
			}
		}
	}
	return maybeNearest(name, names)
}

// maybeNearest asks whether the nearest name was meant, if there is one.
func maybeNearest(name string, names []string) string {
	if near := Nearest(name, names); near != "" {
		return didYouMean(near)
	}
	return ""
}

// oneWord reads one of the words.
func oneWord(n *node, what string, words []string) (string, error) {
	word, err := n.string()
	if err == nil && !slices.Contains(words, word) {
		err = fmt.Errorf("invalid %s %s: must be %s%s", what, n.quoted(), oneOf(words), maybeNearest(word, words))
	}
	return word, err
}

func readVerbosity(u *User, n *node) error {
	word, err := oneWord(n, "verbosity", []string{string(Quiet), string(Normal), string(Verbose)})
	u.Verbosity = Verbosity(word)
	return err
}

var errKeep = errors.New(`must be a positive age such as "7d" or "36h", or a number of days`)

func readKeep(u *User, n *node) (err error) {
	text := n.text
	if n.kind != stringKind {
		days, err := n.float()
		if err != nil {
			return errKeep
		}
		text = strconv.FormatFloat(days, 'f', -1, 64) + "d"
	}
	if u.Logs.Keep, err = ParseAge(text); err != nil {
		return errKeep
	}
	return nil
}

// The bounds of max_size: below, every line would be a file of its own.
const (
	leastLogSize = 64 << 10
	mostLogSize  = 1 << 40
)

var errSize = errors.New(`must be a size such as "512KB", "4MB" or "1GB", or a number of bytes, and at least "64KB"`)

func readMaxSize(u *User, n *node) error {
	size, unit := 0.0, int64(1)
	var err error
	switch n.kind {
	case integerKind:
		size, err = n.float()
	case stringKind:
		var number string
		number, unit = cutUnit(n.text)
		size, err = strconv.ParseFloat(number, 64)
	default:
		return errSize
	}
	size *= float64(unit)
	if err != nil || !(size >= leastLogSize && size <= mostLogSize) {
		return errSize
	}
	u.Logs.MaxSize = int64(size)
	return nil
}

// cutUnit takes the unit off a size.
func cutUnit(text string) (number string, unit int64) {
	for i, suffix := range []string{"KB", "MB", "GB"} {
		if number, ok := strings.CutSuffix(strings.ToUpper(text), suffix); ok {
			return strings.TrimSpace(number), 1 << (10 * (i + 1))
		}
	}
	return text, 1
}

func readNotifyCommand(u *User, n *node) error {
	if n.kind != arrayKind {
		return n.want(wantStrings)
	}
	if len(n.items) == 0 {
		return errors.New(`must not be empty, for example ["say", "{service} {event}"]`)
	}
	var bad badItems
	for i, item := range n.items {
		if item.kind != stringKind || i == 0 { // an empty argument is fine, an empty program is not
			_, err := item.string()
			bad = bad.with(item, err)
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

func readNotifyOn(u *User, n *node) error {
	if n.kind != arrayKind {
		return n.want(wantStrings)
	}
	u.Notify.On = []string{}
	var bad badItems
	for _, item := range n.items {
		word, err := oneWord(item, "event", EventKinds)
		bad = bad.with(item, err)
		u.Notify.On = append(u.Notify.On, word)
	}
	return bad.err()
}
