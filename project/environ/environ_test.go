package environ

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/project"
)

func pairs(want map[string]string) []project.Variable {
	var list []project.Variable
	for name, value := range want {
		list = append(list, project.Variable{Name: name, Value: value})
	}
	return list
}

// drawEnv draws small environments over few names, so that they often overlap.
func drawEnv(t *rapid.T, label string) Env {
	value := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	return Env(rapid.MapOf(rapid.SampledFrom([]string{"A", "B", "C", "D"}), value).Draw(t, label))
}

func TestUndo_RestoresTheEnvironment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawEnv(t, "before")
		inside := Enter(before, "/a", pairs(drawEnv(t, "first")))
		inside = Enter(inside, "/a", pairs(drawEnv(t, "second"))) // a reload
		inside = Enter(inside, "/b", pairs(drawEnv(t, "third")))  // another project, without leaving first
		if after := Undo(inside); !maps.Equal(after, before) {
			t.Fatalf("before %v, after %v", before, after)
		}
	})
}

func TestEnter_KeepsTheUsersChanges(t *testing.T) {
	before := Env{"HOST": "old"}
	inside := Enter(before, "/a", []project.Variable{{Name: "HOST", Value: "ours"}, {Name: "PORT", Value: "1"}})
	inside["HOST"] = "mine"
	delete(inside, "PORT")

	again := Enter(inside, "/a", []project.Variable{{Name: "HOST", Value: "ours2"}, {Name: "PORT", Value: "2"}})
	if again["HOST"] != "mine" {
		t.Errorf("HOST = %q after entering again, want the user's", again["HOST"])
	}
	if port, ok := again["PORT"]; ok {
		t.Errorf("PORT = %q after the user unset it", port)
	}
	if after := Undo(again); !maps.Equal(after, Env{"HOST": "mine"}) {
		t.Errorf("after leaving: %v", after)
	}
}

func TestEnter_KeepsTheUsersChangesWherePathIsNotUTF8(t *testing.T) {
	const config = "/caf\xe9/.localport.toml"
	inside := Enter(Env{}, config, []project.Variable{{Name: "HOST", Value: "ours"}})
	inside["HOST"] = "mine"
	if !ReadDiff(inside).IsOf(config) || ReadDiff(inside).IsOf("/caf\xff/.localport.toml") {
		t.Errorf("the diff is of %q", ReadDiff(inside).Config)
	}
	if again := Enter(inside, config, []project.Variable{{Name: "HOST", Value: "ours"}}); again["HOST"] != "mine" {
		t.Errorf("HOST = %q, want the user's", again["HOST"])
	}
}

func TestEnter_IsIdempotent(t *testing.T) {
	once := Enter(Env{"X": "1"}, "/a", []project.Variable{{Name: "X", Value: "2"}})
	twice := Enter(once, "/a", []project.Variable{{Name: "X", Value: "2"}})
	if changes := ListChanges(once, twice); len(changes) != 0 {
		t.Errorf("changes: %v", changes)
	}
}

func TestDiff_HoldsNoValueOfTheProject(t *testing.T) {
	env := Enter(Env{}, "/a", []project.Variable{{Name: "PGPASSWORD", Value: "hunter2hunter2"}})
	if d := ReadDiff(env); d.Vars["PGPASSWORD"].Set == "hunter2hunter2" {
		t.Error("the diff contains the value")
	}
}

func TestUndo_IgnoresAnInvalidDiff(t *testing.T) {
	for _, value := range []string{"", "?", "e30", "bnVsbA", "WzFd"} {
		env := Env{DiffVariable: value, "A": "1"}
		if got := Undo(env); !maps.Equal(got, Env{"A": "1"}) {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// Another program may put entries of its own into the list, remove ours, or put back what it saw when it started.
func TestUndo_RemovesOurEntriesFromAList(t *testing.T) {
	const ours = "/p/bin:/p/bin2:/usr/bin:/bin:/p/last"
	inside := Enter(Env{"PATH": "/usr/bin:/bin"}, "/p", []project.Variable{{Name: "PATH", Value: ours, ExtendsItself: true}})
	for now, want := range map[string]string{
		ours:                   "/usr/bin:/bin",
		"/theirs:" + ours:      "/theirs:/usr/bin:/bin",
		ours + ":/theirs":      "/usr/bin:/bin:/theirs",
		"/usr/bin:/bin":        "/usr/bin:/bin",
		"/usr/bin:/p/bin:/bin": "/usr/bin:/bin",
		"/p/bin:" + ours:       "/p/bin:/usr/bin:/bin", // one of them is the user's
		"":                     "",
	} {
		env := maps.Clone(inside)
		env["PATH"] = now
		if got := Undo(env)["PATH"]; got != want {
			t.Errorf("%q becomes %q, want %q", now, got, want)
		}
	}
	delete(inside, "PATH")
	if after := Undo(inside); !maps.Equal(after, Env{}) {
		t.Errorf("the user unset it: %v", after)
	}
}

func TestEnter_AddsOurEntriesAgainToAChangedList(t *testing.T) {
	variables := func(previous string) []project.Variable {
		return []project.Variable{{Name: "PATH", Value: "/p/bin:" + previous, ExtendsItself: true}}
	}
	inside := Enter(Env{"PATH": "/bin"}, "/p", variables("/bin"))
	inside["PATH"] = "/theirs:/bin" // direnv has loaded its file again
	again := Enter(inside, "/p", variables(Undo(inside)["PATH"]))
	if got := again["PATH"]; got != "/p/bin:/theirs:/bin" {
		t.Errorf("PATH = %q", got)
	}
	if got := Undo(again)["PATH"]; got != "/theirs:/bin" {
		t.Errorf("after leaving PATH = %q", got)
	}
}
