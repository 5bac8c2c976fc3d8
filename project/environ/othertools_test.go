package environ

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"testing"

	"github.com/tinylib/msgp/msgp"

	"github.com/localport-sh/localport/project"
)

// encodeTool compresses like direnv, with padding, and like mise, without.
func encodeTool(t *testing.T, data []byte, encoding *base64.Encoding) string {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return encoding.EncodeToString(b.Bytes())
}

// setTool returns env after a tool has set HOST to "theirs"; before is the value that it has seen.
func setTool(t *testing.T, env Env, tool string, before string) Env {
	t.Helper()
	if tool == "DIRENV_DIFF" {
		env[tool] = encodeTool(t, []byte(`{"p":{"HOST":"`+before+`"},"n":{"HOST":"theirs"}}`), base64.URLEncoding)
	} else {
		data, err := msgp.AppendMapStrIntf(nil, map[string]any{"old": map[string]any{"HOST": before}, "new": map[string]any{"HOST": "theirs"}, "path": []any{"/t"}})
		if err != nil {
			t.Fatal(err)
		}
		env[tool] = encodeTool(t, data, base64.RawStdEncoding)
	}
	env["HOST"] = "theirs"
	return env
}

func TestEnter_ReplacesWhatAnotherToolHasSet(t *testing.T) {
	variables := []project.Variable{{Name: "HOST", Value: "ours"}}
	for _, tool := range []string{"DIRENV_DIFF", "__MISE_DIFF"} {
		for _, isToolFirst := range []bool{true, false} {
			env := Env{"HOST": "outside"}
			if isToolFirst {
				env = Enter(setTool(t, env, tool, "outside"), "/p", variables)
			} else {
				env = Enter(setTool(t, Enter(env, "/p", variables), tool, "ours"), "/p", variables)
			}
			if got := env["HOST"]; got != "ours" {
				t.Errorf("%s first=%v: HOST=%q, want ours", tool, isToolFirst, got)
			}
			if got := Undo(env)["HOST"]; got != "theirs" {
				t.Errorf("%s first=%v: while the tool is active, HOST=%q after leaving, want theirs", tool, isToolFirst, got)
			}
			env = Enter(setTool(t, env, tool, "ours"), "/p", variables) // as mise does at each cd
			delete(env, tool)                                           // it has restored what it has seen
			if got := Undo(env)["HOST"]; got != "outside" {
				t.Errorf("%s first=%v: when the tool has gone, HOST=%q after leaving, want outside", tool, isToolFirst, got)
			}
			env["HOST"] = "outside" // or what was there before
			if env = Enter(env, "/p", variables); env["HOST"] != "ours" || Undo(env)["HOST"] != "outside" {
				t.Errorf("%s first=%v: when the tool has gone, HOST=%q, after leaving %q", tool, isToolFirst, env["HOST"], Undo(env)["HOST"])
			}
			env["HOST"] = "mine"
			if env = Enter(env, "/p", variables); env["HOST"] != "mine" {
				t.Errorf("%s first=%v: the user's HOST is %q", tool, isToolFirst, env["HOST"])
			}
		}
	}
}

func TestReadToolDiffs_IgnoresWhatItCannotDecode(t *testing.T) {
	for _, text := range []string{"?", "e30", encodeTool(t, []byte("[1]"), base64.URLEncoding), encodeTool(t, []byte("\x81\xa3old\x01"), base64.RawStdEncoding), encodeTool(t, nil, base64.URLEncoding)} {
		for name := range toolVariables {
			if diffs := readToolDiffs(Env{name: text}); len(diffs) > 0 {
				t.Errorf("%s=%q: %v", name, text, diffs)
			}
		}
	}
}
