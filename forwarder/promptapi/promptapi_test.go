package promptapi

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// text is what an argument, a variable or a path may be: any bytes but zero.
var text = rapid.Map(rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 30), func(b []byte) string { return string(b) })

func TestRequest_IsParsedAsItWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Request{
			Executable: text.Draw(t, "executable"), Dir: text.Draw(t, "dir"), DirID: text.Draw(t, "id"),
			Args: rapid.SliceOfN(text, 0, 8).Draw(t, "args"), Environment: rapid.SliceOfN(text, 0, 8).Draw(t, "environment"),
		}
		body := r.Encode()
		got, ok := ParseRequest(body)
		if !ok || got.Executable != r.Executable || got.Dir != r.Dir || got.DirID != r.DirID ||
			!slices.Equal(got.Args, r.Args) || !slices.Equal(got.Environment, r.Environment) {
			t.Fatalf("%+v became %+v, %v", r, got, ok)
		}
		if got, ok := ParseRequest(body[:len(body)-1]); ok && slices.Equal(got.Args, r.Args) && slices.Equal(got.Environment, r.Environment) {
			t.Fatalf("the request without its last byte is %+v", got)
		}
	})
}

func TestResponse_IsParsedOnlyWhenItIsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes100 := rapid.SliceOfN(rapid.Byte(), 0, 100)
		r := Response{ExitStatus: rapid.IntRange(0, 255).Draw(t, "status"), Stdout: bytes100.Draw(t, "stdout"), Stderr: bytes100.Draw(t, "stderr")}
		limit := rapid.IntRange(0, 1e6).Draw(t, "limit")
		body := append(EncodeLimit(limit), r.Encode()...)
		gotLimit, rest, ok := CutLimit(body)
		if !ok || gotLimit != limit {
			t.Fatalf("limit %d became %d, %v", limit, gotLimit, ok)
		}
		got, ok := ParseResponse(rest)
		if !ok || got.ExitStatus != r.ExitStatus || !bytes.Equal(got.Stdout, r.Stdout) || !bytes.Equal(got.Stderr, r.Stderr) {
			t.Fatalf("%+v became %+v, %v", r, got, ok)
		}
		if cut := rapid.IntRange(0, len(rest)-1).Draw(t, "cut"); cut < len(rest) {
			if got, ok := ParseResponse(rest[:cut]); ok {
				t.Fatalf("%d of %d bytes are %+v", cut, len(rest), got)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(Request{Args: []string{"bash"}, Environment: []string{"A=1"}}.Encode())
	f.Add(Response{Stdout: []byte("out"), Stderr: []byte("err")}.Encode())
	f.Add([]byte("\x00\x00\x0099999999999999999999\x00"))
	f.Add([]byte("0 -1 9223372036854775807\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, ok := ParseRequest(data); ok {
			if again, ok := ParseRequest(r.Encode()); !ok || !slices.Equal(again.Args, r.Args) || !slices.Equal(again.Environment, r.Environment) {
				t.Errorf("%+v became %+v", r, again)
			}
		}
		if r, ok := ParseResponse(data); ok {
			if again, ok := ParseResponse(r.Encode()); !ok || !bytes.Equal(again.Stdout, r.Stdout) || !bytes.Equal(again.Stderr, r.Stderr) {
				t.Errorf("%+v became %+v", r, again)
			}
		}
		_, _, _ = CutLimit(data)
	})
}

func TestIdentities(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if id := DirID(dir); id == "" || id != DirID(link) || id == DirID(filepath.Dir(dir)) {
		t.Errorf("the directory is %q, by a link %q, its parent %q", id, DirID(link), DirID(filepath.Dir(dir)))
	}
	if id := DirID(filepath.Join(dir, "missing")); id != "" {
		t.Errorf("a missing directory is %q", id)
	}
	if id := ExecutableID(); id != ExecutableID() || strings.Count(id, ":") != 3 {
		t.Errorf("the program is %q", id)
	}
}
