package environ

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/project"
)

// modelEntry is an entry of a list that knows who added it.
type modelEntry struct {
	text   string
	isOurs bool
}

func joinModel(list []modelEntry) string {
	var texts []string
	for _, entry := range list {
		texts = append(texts, entry.text)
	}
	return strings.Join(texts, listSeparator)
}

// listProject is a project with PATH = "BEFORE:${PATH}:AFTER".
type listProject struct{ before, after []string }

func drawListProject(t *rapid.T, entries *rapid.Generator[string]) listProject {
	added := rapid.SliceOfNDistinct(entries, 1, 4, rapid.ID[string]).Draw(t, "added")
	n := rapid.IntRange(0, len(added)).Draw(t, "before")
	return listProject{added[:n], added[n:]}
}

func (p listProject) prompt(env Env) Env {
	value := strings.Join(slices.Concat(p.before, []string{Undo(env)["PATH"]}, p.after), listSeparator)
	return Enter(env, "/p", []project.Variable{{Name: "PATH", Value: value, ExtendsItself: true}})
}

func (p listProject) add(users []modelEntry) (list []modelEntry) {
	for _, entry := range p.before {
		list = append(list, modelEntry{entry, true})
	}
	if len(users) == 0 {
		users = []modelEntry{{}} // an empty list and one with an empty entry are the same text
	}
	list = append(list, users...)
	for _, entry := range p.after {
		list = append(list, modelEntry{entry, true})
	}
	return list
}

func usersEntries(list []modelEntry) (users []modelEntry) {
	for _, entry := range list {
		if !entry.isOurs {
			users = append(users, entry)
		}
	}
	return users
}

// edit makes one change of a list as a user does: an entry is added, removed or moved.
func edit(t *rapid.T, list []modelEntry, entries *rapid.Generator[string]) []modelEntry {
	add := func(at int) []modelEntry {
		return slices.Insert(slices.Clone(list), at, modelEntry{text: entries.Draw(t, "entry")})
	}
	switch action := rapid.SampledFrom([]string{"prepend", "append", "insert", "remove", "move"}).Draw(t, "action"); {
	case action == "prepend":
		return add(0)
	case action == "append" || len(list) == 0:
		return add(len(list))
	case action == "insert":
		return add(rapid.IntRange(0, len(list)).Draw(t, "at"))
	default:
		at := rapid.IntRange(0, len(list)-1).Draw(t, "from")
		rest := slices.Delete(slices.Clone(list), at, at+1)
		if action == "remove" {
			return rest
		}
		return slices.Insert(rest, rapid.IntRange(0, len(rest)).Draw(t, "to"), list[at])
	}
}

func drawPath(t *rapid.T, entries *rapid.Generator[string]) (env Env, users []modelEntry) {
	if rapid.Bool().Draw(t, "unset") {
		return Env{}, nil
	}
	users = []modelEntry{}
	for _, text := range rapid.SliceOfN(entries, 0, 5).Draw(t, "outside") {
		users = append(users, modelEntry{text: text})
	}
	return Env{"PATH": joinModel(users)}, users
}

// Whatever the user does to a list inside, at whichever prompts: leaving removes what the project has added, and nothing else.
func TestUndo_RemovesExactlyWhatWasAddedToAList(t *testing.T) {
	users := rapid.SampledFrom([]string{"/a", "/b", "/caf\xe9", ""})
	rapid.Check(t, func(t *rapid.T) {
		p := drawListProject(t, rapid.SampledFrom([]string{"/p", "/q", "/r", "/p\xff"}))
		env, outside := drawPath(t, users)
		env, list := p.prompt(env), p.add(outside)
		for range rapid.IntRange(0, 8).Draw(t, "prompts") {
			for range rapid.IntRange(0, 3).Draw(t, "edits") {
				list = edit(t, list, users)
			}
			if len(list) == 0 {
				list = []modelEntry{{}}
			}
			env["PATH"] = joinModel(list)
			env = p.prompt(env)
			if len(list)-len(usersEntries(list)) < len(p.before)+len(p.after) {
				list = p.add(usersEntries(list))
			}
			if env["PATH"] != joinModel(list) {
				t.Fatalf("PATH is %q, want %q", env["PATH"], joinModel(list))
			}
		}
		if got, want := Undo(env)["PATH"], joinModel(usersEntries(list)); got != want {
			t.Fatalf("after leaving %q, want %q", got, want)
		}
	})
}

// The user may add entries that the project has too, or have them already. One is as good as another, but as many stay as the user has.
func TestUndo_LeavesTheUsersEntriesThatAreAlsoOurs(t *testing.T) {
	entries := rapid.SampledFrom([]string{"/a", "/b", "/c", ""})
	rapid.Check(t, func(t *rapid.T) {
		p := drawListProject(t, rapid.SampledFrom([]string{"/a", "/b", "/c"}))
		env, outside := drawPath(t, entries)
		users, ours := map[string]int{}, map[string]int{}
		for _, text := range slices.Concat(p.before, p.after) {
			ours[text]++
		}
		for _, entry := range usersEntries(p.add(outside)) {
			users[entry.text]++
		}
		env = p.prompt(env)
		for range rapid.IntRange(0, 6).Draw(t, "prompts") {
			var list []modelEntry
			for _, text := range splitList(env["PATH"]) {
				list = append(list, modelEntry{text: text})
			}
			for range rapid.IntRange(0, 2).Draw(t, "edits") {
				list = edit(t, list, entries)
			}
			env["PATH"] = joinModel(list)
			counts := map[string]int{}
			for _, text := range splitList(env["PATH"]) {
				counts[text]++
			}
			for _, text := range []string{"/a", "/b", "/c", ""} {
				users[text] = counts[text] - min(ours[text], max(0, counts[text]-users[text]))
			}
			present := env["PATH"]
			env = p.prompt(env)
			for _, text := range slices.Concat(p.before, p.after) {
				if ours[text] = 1; env["PATH"] == present { // of two equal entries, the one that is left has become the user's
					ours[text] = counts[text] - users[text]
				}
			}
			left := Undo(env)
			for text, want := range users {
				if got := count(splitList(left["PATH"]), text); got != want && left["PATH"] != "" {
					t.Fatalf("after leaving %q has %q %d times, want %d", left["PATH"], text, got, want)
				}
			}
		}
	})
}

func TestUndo_OfAListWithEqualEntries(t *testing.T) {
	for _, c := range []struct{ outside, inside, now, want string }{
		{"/a:/p", "/p:/a:/p", "/p:/x:/p:/a:/p", "/p:/x:/a:/p"}, // the user has put /p:/x before it
		{"/a", "/a:/p", "/a:/p:/x:/p", "/a:/x:/p"},             // and after it
		{"/a:/p", "/p:/a:/p", "/p:/a", "/a:/p"},                // zsh's typeset -U
		{"/a:/p", "/p:/a:/p", "/x:/p:/a", "/x:/p:/a"},          // the same, and the user has added /x
		{"/a:/a", "/p:/a:/a", "/p:/a", "/a"},                   // the user has removed one
		{"/p", "/p:/p:/q", "/x:/p:/q", "/x:/p"},
	} {
		env := Enter(Env{"PATH": c.outside}, "/p", []project.Variable{{Name: "PATH", Value: c.inside, ExtendsItself: true}})
		env["PATH"] = c.now
		if got := Undo(env)["PATH"]; got != c.want {
			t.Errorf("outside %q, inside %q, then %q: after leaving %q, want %q", c.outside, c.inside, c.now, got, c.want)
		}
	}
}

// Without a list outside, there is none after leaving unless the user has added something.
func TestUndo_OfAListThatWasNotSet(t *testing.T) {
	for _, template := range []struct{ before, fallback, after string }{{"/p:", "", ""}, {"", "", ":/p"}, {"/p:", "/default", ""}} {
		prompt := func(env Env) Env {
			value := template.before + cmp.Or(Undo(env)["MANPATH"], template.fallback) + template.after
			return Enter(env, "/p", []project.Variable{{Name: "MANPATH", Value: value, ExtendsItself: true}})
		}
		env := prompt(Env{})
		value := env["MANPATH"]
		env["MANPATH"] = "/x:" + value
		env = prompt(env)
		if got := Undo(env)["MANPATH"]; strings.Trim(got, listSeparator) != "/x" {
			t.Errorf("%v: after leaving %q, want the user's", template, got)
		}
		env["MANPATH"] = value
		env = prompt(env)
		if got := Undo(env)["MANPATH"]; got != template.fallback { // the user has put the default into the list
			t.Errorf("%v: after leaving %q, want %q", template, got, template.fallback)
		}
	}
}

func TestEnter_KeepsTheUsersOrderOfAList(t *testing.T) {
	variables := func(env Env) []project.Variable {
		return []project.Variable{{Name: "PATH", Value: "/p:" + Undo(env)["PATH"] + ":/q", ExtendsItself: true}}
	}
	env := Env{"PATH": "/a:/b"}
	env = Enter(env, "/p", variables(env))
	for _, step := range []struct{ now, want, left string }{
		{"/venv:/p:/a:/b:/q", "/venv:/p:/a:/b:/q", "/venv:/a:/b"},
		{"/venv:/q:/a:/b:/p", "/venv:/q:/a:/b:/p", "/venv:/a:/b"},
		{"/q:/a:/b:/p", "/q:/a:/b:/p", "/a:/b"},
		{"/q:/b", "/p:/b:/q", "/b"}, // one of ours is missing
	} {
		env["PATH"] = step.now
		env = Enter(env, "/p", variables(env))
		if got := env["PATH"]; got != step.want {
			t.Errorf("%q becomes %q, want %q", step.now, got, step.want)
		}
		if got := Undo(env)["PATH"]; got != step.left {
			t.Errorf("%q: after leaving %q, want %q", step.now, got, step.left)
		}
	}
}
