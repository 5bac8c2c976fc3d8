package draft_test

import (
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"pgregory.net/rapid"

	"github.com/localport-sh/localport/project/draft"
)

// TestConfig_TextHoldsEveryValue writes configs with any strings as names, values and comments, and reads them with go-toml.
func TestConfig_TextHoldsEveryValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("a$\"\\\n\t'#={}[]\x00\x7f\u202e é"))))
		value, key, list := text.Draw(t, "value"), text.Draw(t, "key"), rapid.SliceOfN(text, 1, 3).Draw(t, "list")
		config := draft.Config{
			Comment:  []string{text.Draw(t, "comment")},
			Settings: []draft.Entry{{Key: "linger", Value: value, Comment: text.Draw(t, "comment after a value")}},
			Services: []draft.Service{{Name: key, Comment: []string{text.Draw(t, "service's comment")}, Entries: []draft.Entry{
				{Key: "list", Value: list},
				{Key: "table", Value: draft.Table{{Key: key, Value: value}, {Key: "raw", Value: draft.Template(value)}}},
				{Key: "number", Value: 1.0},
				{Key: "after", Value: true},
			}}},
			Trailer: []string{text.Draw(t, "trailer")},
		}
		var got struct {
			Linger   string
			Services map[string]struct {
				List   []string
				Table  map[string]string
				Number float64
				After  bool
			}
		}
		if err := toml.Unmarshal([]byte(config.Text()), &got); err != nil {
			t.Fatalf("%v in:\n%s", err, config.Text())
		}
		svc := got.Services[key]
		literal := strings.ReplaceAll(value, "$", "$$")
		if got.Linger != literal || svc.Table["raw"] != value || key != "raw" && svc.Table[key] != literal || !svc.After || svc.Number != 1 {
			t.Fatalf("got %+v, want the value %q, from:\n%s", got, value, config.Text())
		}
		for i := range list {
			if svc.List[i] != strings.ReplaceAll(list[i], "$", "$$") {
				t.Fatalf("got list %q, want %q", svc.List, list)
			}
		}
	})
}

func TestNames_AreValidAndUnique(t *testing.T) {
	names := draft.Names{}
	for _, test := range []struct{ text, want string }{
		{"db", "db"},
		{"db", "db-2"},
		{"DB", "DB-3"},
		{"my-db", "my-db"},
		{"my_db", "my_db-2"},
		{"", "service"},
		{"9p", "service-9p"},
		{"supervisor", "app-supervisor"},
		{"localport", "app-localport"},
		{"localport-web", "app-localport-web"},
		{"a b.c", "a-b-c"},
		{"é", "service-2"},
		{strings.Repeat("x", 100), strings.Repeat("x", 60)},
		{"-x-", "x"},
	} {
		if got := names.Add(test.text); got != test.want {
			t.Errorf("Add(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}
