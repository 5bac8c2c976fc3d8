package draft

import "testing"

func TestConfig_IsWrittenAsJSONAndYAML(t *testing.T) {
	table := Table{{Key: "host", Value: "a$b"}}
	table.Put([]string{"options", "A"}, "yes")
	table.Put([]string{"options", "B"}, 5)
	table.Put([]string{"host"}, "not this")
	c := Config{
		Settings: []Entry{{Key: "linger", Value: Template("30s")}},
		Defaults: []Entry{{Key: "enabled", Value: true}},
		Services: []Service{{Name: "db", Entries: []Entry{{Key: "connection", Value: table}, {Key: "tags", Value: []string{"a"}}, {Key: "none", Value: Table{}}, {Key: "n", Value: []int{1, 2}}}}},
		Env:      []Entry{{Key: "X", Value: Template("${HOME}\u0085")}, {Key: "L", Value: []Template{"${A}"}}, {Key: "F", Value: 1.5}},
	}
	const json = `{
  "linger": "30s",
  "defaults": {
    "enabled": true
  },
  "services": {
    "db": {
      "connection": {
        "host": "a$$b",
        "options": {
          "A": "yes",
          "B": 5
        }
      },
      "tags": ["a"],
      "none": {},
      "n": [1, 2]
    }
  },
  "env": {
    "X": "${HOME}\u0085",
    "L": ["${A}"],
    "F": 1.5
  }
}
`
	if got := c.JSON(); got != json {
		t.Errorf("JSON:\n%s", got)
	}
	const yaml = `linger: "30s"
defaults:
  enabled: true
services:
  db:
    connection:
      host: "a$$b"
      options:
        A: "yes"
        B: 5
    tags: ["a"]
    none: {}
    "n": [1, 2]
env:
  X: "${HOME}\u0085"
  L: ["${A}"]
  F: 1.5
`
	if got := c.YAML(); got != yaml {
		t.Errorf("YAML:\n%s", got)
	}
	if got := (Config{}).YAML(); got != "{}\n" {
		t.Errorf("an empty config is %q", got)
	}
}

func TestFormatResolved_EscapesNoDollar(t *testing.T) {
	for want, value := range map[string]any{
		`"a$b"`: "a$b", `["$x"]`: []string{"$x"}, `{ A = "$y", B = 1 }`: Table{{Key: "A", Value: "$y"}, {Key: "B", Value: 1}}, `true`: true, `2.0`: 2.0,
	} {
		if got := FormatResolved(value); got != want {
			t.Errorf("%v is %s", value, got)
		}
	}
}
