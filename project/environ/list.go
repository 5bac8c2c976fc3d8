package environ

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// listSeparator separates the entries of a list like PATH.
const listSeparator = ":"

// maxListCells bounds the table of alignEntries: 4 MB. A longer list is searched entry by entry.
const maxListCells = 1 << 20

// addedEntries are the entries that a project added to a list like PATH. JSON cannot hold those that are not UTF-8: if there is one, the
// fields for bytes hold all of them.
type addedEntries struct {
	Before      []string `json:"before,omitempty"`
	After       []string `json:"after,omitempty"`
	BeforeBytes [][]byte `json:"before_bytes,omitempty"` // older versions drop these two
	AfterBytes  [][]byte `json:"after_bytes,omitempty"`
	// At are the ascending positions of all of them in the list, if the user has changed it; else Before are the first, After the last.
	At []int `json:"at,omitempty"`
}

func newAddedEntries(before, after []string) addedEntries {
	isInvalid := func(entry string) bool { return !utf8.ValidString(entry) }
	if !slices.ContainsFunc(before, isInvalid) && !slices.ContainsFunc(after, isInvalid) {
		return addedEntries{Before: before, After: after}
	}
	var a addedEntries
	for _, entry := range before {
		a.BeforeBytes = append(a.BeforeBytes, []byte(entry))
	}
	for _, entry := range after {
		a.AfterBytes = append(a.AfterBytes, []byte(entry))
	}
	return a
}

func (a addedEntries) before() []string { return append(textsOf(a.BeforeBytes), a.Before...) }
func (a addedEntries) after() []string  { return append(textsOf(a.AfterBytes), a.After...) }

func textsOf(entries [][]byte) (texts []string) {
	for _, entry := range entries {
		texts = append(texts, string(entry))
	}
	return texts
}

// findAddedEntries returns what value has more than the list previous; nil: there was none. It is nothing if value does not contain previous.
func findAddedEntries(value string, previous *string) addedEntries {
	all, old := splitList(value), []string{""} // bin:${PATH} without a PATH ends with an empty entry
	if previous != nil {
		old = splitList(*previous)
	}
	for i := range len(all) - len(old) + 1 {
		if slices.Equal(all[i:i+len(old)], old) {
			return newAddedEntries(all[:i], all[i+len(old):])
		}
	}
	if previous == nil || *previous == "" {
		return newAddedEntries(all, nil)
	}
	return addedEntries{}
}

func splitList(value string) []string { return strings.Split(value, listSeparator) }

// listEdit is a list of which some entries were added by a project.
type listEdit struct {
	entries []string
	isAdded []bool
}

// listEdit returns how c has set a list, if it is known.
func (c variableChange) listEdit() (edit listEdit, isKnown bool) {
	before, after := c.before(), c.after()
	if len(before)+len(after) == 0 {
		return edit, false
	}
	old := []string{""}
	if previous := c.value(); previous != nil {
		old = splitList(*previous)
	}
	for _, old := range [][]string{old, nil} { // nil: the config has a default for a list that is not there
		edit = listEdit{slices.Clone(old), make([]bool, len(old))}
		for i, entry := range slices.Concat(before, after) {
			at := i
			switch {
			case i < len(c.At):
				at = min(max(c.At[i], 0), len(edit.entries))
			case i >= len(before):
				at = len(edit.entries)
			}
			edit.entries, edit.isAdded = slices.Insert(edit.entries, at, entry), slices.Insert(edit.isAdded, at, true)
		}
		if hash(strings.Join(edit.entries, listSeparator)) == c.Set {
			return edit, true
		}
	}
	return edit, false
}

// isDeduplicated reports whether list is what a shell makes of l if it keeps the first of equal entries only, as zsh's typeset -U does. The
// list was without equal entries then when the project added its own.
func (l listEdit) isDeduplicated(list []string) bool {
	others := l.others()
	return len(uniqueEntries(others)) == len(others) && slices.Equal(uniqueEntries(l.entries), list)
}

func uniqueEntries(list []string) (unique []string) {
	for _, entry := range list {
		if !slices.Contains(unique, entry) {
			unique = append(unique, entry)
		}
	}
	return unique
}

// added and others return the entries that the project added, and those that it did not.
func (l listEdit) added() []string  { return l.pick(true) }
func (l listEdit) others() []string { return l.pick(false) }

func (l listEdit) pick(isAdded bool) (entries []string) {
	for i, entry := range l.entries {
		if l.isAdded[i] == isAdded {
			entries = append(entries, entry)
		}
	}
	return entries
}

// findEntries returns a list that the user or another program has changed since c set it. isComplete: all that c added is still there. Of
// equal entries of which one is the user's, that one stays.
func (c variableChange) findEntries(value string) (now listEdit, isComplete bool) {
	was, isKnown := c.listEdit()
	if !isKnown { // set by an older version
		was.entries = slices.Concat(c.before(), c.after())
		was.isAdded = slices.Repeat([]bool{true}, len(was.entries))
	}
	list := splitList(value)
	now = listEdit{list, was.align(list)}
	added, others := was.added(), was.others()
	isComplete = true
	for _, entry := range slices.Compact(slices.Sorted(slices.Values(added))) {
		n := min(count(added, entry), max(0, count(list, entry)-count(others, entry)))
		isComplete = isComplete && n == count(added, entry)
		now.mark(entry, n)
	}
	return now, isComplete
}

// keepOrder returns the present value of a list if it still has all that old added to it, and that is what the project adds now: the order
// of the entries is the user's. It then changes c so that c has set that value. Otherwise it returns value, which c has set.
func (c *variableChange) keepOrder(old variableChange, value, present string) string {
	now, isComplete := old.findEntries(present)
	wanted, added := slices.Concat(c.before(), c.after()), now.added()
	isKept := isComplete && slices.Equal(slices.Sorted(slices.Values(added)), slices.Sorted(slices.Values(wanted)))
	if len(uniqueEntries(now.entries)) == len(now.entries) { // zsh's typeset -U has removed copies
		isKept = containsAll(now.entries, wanted) && containsAll(wanted, added)
	}
	if !isKept || len(wanted) == 0 {
		return value
	}
	c.Set = hash(present)
	c.addedEntries = newAddedEntries(added, nil)
	c.At = nil
	for i, isAdded := range now.isAdded {
		if isAdded {
			c.At = append(c.At, i)
		}
	}
	return present
}

// align reports of each entry in list whether it is one that the project added to l, by a longest common subsequence. Of equal entries it
// chooses the one next to the entries of others, because users add theirs at the ends.
func (l listEdit) align(list []string) []bool {
	isAdded := make([]bool, len(list))
	if (len(l.entries)+1)*(len(list)+1) > maxListCells {
		return isAdded
	}
	// lengths[i][j] is the length of the longest common subsequence of l.entries[i:] and list[j:].
	lengths := make([][]int32, len(l.entries)+1)
	for i := range lengths {
		lengths[i] = make([]int32, len(list)+1)
	}
	for i, entry := range slices.Backward(l.entries) {
		for j := range slices.Backward(list) {
			lengths[i][j] = max(lengths[i+1][j], lengths[i][j+1])
			if entry == list[j] {
				lengths[i][j] = lengths[i+1][j+1] + 1
			}
		}
	}
	lastOther := len(l.isAdded) - 1
	for lastOther >= 0 && l.isAdded[lastOther] {
		lastOther--
	}
	isPrepended := slices.Contains(l.isAdded[:lastOther+1], true)
	for i, j := 0, 0; i < len(l.entries) && j < len(list); {
		prefersRight := isPrepended && i <= lastOther
		switch {
		case prefersRight && lengths[i][j+1] == lengths[i][j]:
			j++
		case prefersRight && lengths[i+1][j] == lengths[i][j]:
			i++
		case l.entries[i] == list[j]:
			isAdded[j] = l.isAdded[i]
			i, j = i+1, j+1
		case lengths[i+1][j] == lengths[i][j]:
			i++
		default:
			j++
		}
	}
	return isAdded
}

// mark changes l so that n of the entries that equal entry count as added: the user has moved, added or removed some.
func (l listEdit) mark(entry string, n int) {
	marked := 0
	for i := range l.entries {
		if l.isAdded[i] && l.entries[i] == entry {
			l.isAdded[i] = marked < n
			marked++
		}
	}
	for i := range l.entries {
		if !l.isAdded[i] && l.entries[i] == entry && marked < n {
			l.isAdded[i] = true
			marked++
		}
	}
}

func containsAll(list, entries []string) bool {
	return !slices.ContainsFunc(entries, func(entry string) bool { return !slices.Contains(list, entry) })
}

func count(list []string, entry string) (n int) {
	for _, e := range list {
		if e == entry {
			n++
		}
	}
	return n
}
