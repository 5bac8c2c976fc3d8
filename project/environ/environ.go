// Package environ sets a project's variables in an environment and restores the previous ones: a value is
// restored only if it is still the one we set, because anything else is the user's own.
package environ

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/localport-sh/localport/project"
)

// DiffVariable is the only variable that we export about ourselves: it passes the Diff to nested shells.
const DiffVariable = "LOCALPORT_DIFF"

// Env maps the names of an environment to their values.
type Env map[string]string

// Parse converts an environment from the form of os.Environ. If a name is repeated, the last value counts, as in a shell.
func Parse(environ []string) Env {
	env := make(Env, len(environ))
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			env[name] = value
		}
	}
	return env
}

// List returns the environment in the form of os.Environ, sorted.
func (e Env) List() []string {
	list := make([]string, 0, len(e))
	for _, name := range slices.Sorted(maps.Keys(e)) {
		list = append(list, name+"="+e[name])
	}
	return list
}

// Get is os.Getenv of this environment.
func (e Env) Get(name string) string { return e[name] }

// Lookup is os.LookupEnv of this environment.
func (e Env) Lookup(name string) (string, bool) {
	value, ok := e[name]
	return value, ok
}

// Diff holds the changes that one project made to an environment. The zero value means no project.
type Diff struct {
	Config string                    `json:"config,omitempty"` // its configID
	Vars   map[string]variableChange `json:"vars,omitempty"`
}

// variableChange is how one variable was changed. The value we set is kept as a hash: it is in the environment already, and a
// secret need not be there twice.
type variableChange struct {
	Set string `json:"set"`
	previousValue
	addedEntries // if the variable extends itself like a list
	// Base is the value that the variable had before another tool set it, if Prev is that tool's. The tool may restore it, or ours.
	Base *previousValue `json:"base,omitempty"`
}

// previousValue is the value of a variable before ours.
type previousValue struct {
	Prev *string `json:"prev,omitempty"` // nil: there was none
	// PrevBytes is Prev where that is not UTF-8, which JSON cannot hold; else nil. Older versions drop it.
	PrevBytes []byte `json:"prev_bytes,omitempty"`
}

func newPreviousValue(value string, isSet bool) (p previousValue) {
	if isSet {
		p.Prev = &value
		if !utf8.ValidString(value) {
			p.PrevBytes = []byte(value)
		}
	}
	return p
}

// value returns the value; nil: there was none.
func (p previousValue) value() *string {
	if p.PrevBytes != nil {
		return new(string(p.PrevBytes))
	}
	return p.Prev
}

// is reports whether the variable has that value, or is not set if there was none.
func (p previousValue) is(value string, isSet bool) bool {
	previous := p.value()
	return isSet == (previous != nil) && (previous == nil || *previous == value)
}

func (c variableChange) hasEntries() bool {
	return len(c.Before)+len(c.After)+len(c.BeforeBytes)+len(c.AfterBytes) > 0
}

// isSet reports whether value is what c has set.
func (c variableChange) isSet(value string) bool {
	if hash(value) == c.Set {
		return true
	}
	edit, isKnown := c.listEdit()
	return isKnown && edit.isDeduplicated(splitList(value))
}

// configID returns the path of a config in a form that JSON keeps: quoted if it is not UTF-8. No absolute path begins with a quote.
func configID(path string) string {
	if !utf8.ValidString(path) {
		return strconv.Quote(path)
	}
	return path
}

func hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.RawStdEncoding.EncodeToString(sum[:9])
}

// ReadDiff returns the Diff in env; the zero Diff if there is none, or an invalid one.
func ReadDiff(env Env) Diff {
	var d Diff
	data, err := base64.RawStdEncoding.DecodeString(env[DiffVariable])
	if err != nil || json.Unmarshal(data, &d) != nil {
		return Diff{}
	}
	return d
}

func (d Diff) encode() string {
	data, err := json.Marshal(d)
	if err != nil { // strings and maps of strings always marshal
		panic(fmt.Sprintf("encode the environment's diff: %v", err))
	}
	return base64.RawStdEncoding.EncodeToString(data)
}

// IsOf reports whether d is that of the project with this config file.
func (d Diff) IsOf(config string) bool { return d.Config == configID(config) }

// IsUnchanged reports whether env still holds what d set under name.
func (d Diff) IsUnchanged(env Env, name string) bool {
	value, ok := env[name]
	return ok && d.Vars[name].isSet(value)
}

// Names returns the variables in env that still hold what d set, sorted.
func (d Diff) Names(env Env) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(d.Vars)) {
		if d.IsUnchanged(env, name) {
			names = append(names, name)
		}
	}
	return names
}

// Base returns the value that a variable had before another tool set the value that Previous returns. hasBase: one has.
func (d Diff) Base(name string) (value *string, hasBase bool) {
	if base := d.Vars[name].Base; base != nil {
		return base.value(), true
	}
	return nil, false
}

// HasEntries reports whether d added entries to a list by that name.
func (d Diff) HasEntries(name string) bool { return d.Vars[name].hasEntries() }

// Previous returns the value that a variable had before d set it; nil if it had none.
func (d Diff) Previous(name string) *string { return d.Vars[name].value() }

// Undo returns env without the changes of its project: every value that is still the one we set is restored, and what we
// added to a list is removed from it.
func Undo(env Env) Env {
	d := ReadDiff(env)
	var tools []toolDiff
	if slices.ContainsFunc(slices.Collect(maps.Values(d.Vars)), func(c variableChange) bool { return c.Base != nil }) {
		tools = readToolDiffs(env)
	}
	base := maps.Clone(env)
	delete(base, DiffVariable)
	for name, change := range d.Vars {
		previous := change.value()
		if _, isActive := findToolDiff(tools, name); change.Base != nil && !isActive {
			previous = change.Base.value() // the tool that had set previous is gone
		}
		value, isSet := env[name]
		switch {
		case isSet && change.hasEntries() && !d.IsUnchanged(env, name):
			list, _ := change.findEntries(value)
			if rest := list.others(); len(rest) > 0 || previous != nil {
				base[name] = strings.Join(rest, listSeparator)
			} else {
				delete(base, name)
			}
		case !d.IsUnchanged(env, name):
		case previous == nil:
			delete(base, name)
		default:
			base[name] = *previous
		}
	}
	return base
}

// Enter returns env with the variables of the project config set, and those of the previous project undone. A
// variable of the same project that the user has changed or unset stays as it is, but entries of ours that a list has lost are added again.
// A value that another tool with a prompt hook has set, or has restored, is not the user's.
func Enter(env Env, config string, variables []project.Variable) Env {
	oldDiff, tools := ReadDiff(env), readToolDiffs(env)
	if !oldDiff.IsOf(config) {
		oldDiff.Vars = nil
	}
	next := Undo(env)
	newDiff := Diff{Config: configID(config), Vars: make(map[string]variableChange, len(variables))}
	for _, variable := range variables {
		old, wasSet := oldDiff.Vars[variable.Name]
		present, isSet := env[variable.Name]
		if wasSet && old.isUsers(present, isSet, tools, variable.Name) {
			newDiff.Vars[variable.Name] = old
			continue
		}
		previous, hasPrevious := next[variable.Name]
		change := variableChange{Set: hash(variable.Value), previousValue: newPreviousValue(previous, hasPrevious)}
		value := variable.Value
		if variable.ExtendsItself {
			change.addedEntries = findAddedEntries(value, change.value())
		}
		if tool, isFound := findToolDiff(tools, variable.Name); isFound && !change.hasEntries() && change.is(tool.after[variable.Name], true) {
			change.Base = tool.baseValue(variable, old)
		}
		if wasSet && isSet && present != value && !isToolsList(tools, variable.Name, present) {
			value = change.keepOrder(old, value, present)
		}
		newDiff.Vars[variable.Name] = change
		next[variable.Name] = value
	}
	next[DiffVariable] = newDiff.encode()
	return next
}

// isUsers reports whether the user has changed or unset the variable since c set it. If a list has changed, our entries are added again.
func (c variableChange) isUsers(present string, isSet bool, tools []toolDiff, name string) bool {
	switch tool, isActive := findToolDiff(tools, name); {
	case isSet && (c.isSet(present) || c.hasEntries()):
		return false
	case isActive && isSet && present == tool.after[name]:
		return false
	case !isActive && c.Base != nil && c.Base.is(present, isSet): // it has restored that
		return false
	}
	return true
}

// baseValue returns the value that a variable had before the tool set it. If that was ours, it is what was there before ours; old is how we
// had set it, the zero value if we had not.
func (t toolDiff) baseValue(variable project.Variable, old variableChange) *previousValue {
	before, isSet := t.before[variable.Name]
	switch base := newPreviousValue(before, isSet); {
	case old.Set == "" || !isSet || before != variable.Value && hash(before) != old.Set:
		return &base
	case old.Base != nil:
		return old.Base
	default:
		return &old.previousValue
	}
}

// Change is one difference between two environments.
type Change struct {
	Name  string
	Value *string // nil: unset
}

// ListChanges returns what must be changed to get from one environment to the other, sorted by name.
func ListChanges(from, to Env) []Change {
	var changes []Change
	for name, value := range to {
		if old, ok := from[name]; !ok || old != value {
			changes = append(changes, Change{name, &value})
		}
	}
	for name := range from {
		if _, ok := to[name]; !ok {
			changes = append(changes, Change{Name: name})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Name, b.Name) })
	return changes
}
