package project

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const sshConfig = `[services.a]
technology = "ssh"
local_port = 1
remote_port = 1
[services.a.connection]
host = "h"
`

func readFiles(t testing.TB, root string) *Files {
	t.Helper()
	f, err := ReadFiles(filepath.Join(root, ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReadFiles_ReadsLocalOverrideOnlyForTheDefaultName(t *testing.T) {
	root := physicalTempDir(t)
	write(t, filepath.Join(root, ConfigName), "")
	write(t, filepath.Join(root, "other.toml"), "")
	write(t, filepath.Join(root, LocalName), "# local")
	write(t, filepath.Join(root, EnvName), "A=1")
	f, err := ReadFiles(filepath.Join(root, "other.toml"))
	if err != nil || f.Local != nil || string(f.DotEnv) != "A=1" || f.Path != filepath.Join(root, "other.toml") {
		t.Errorf("%+v, %v", f, err)
	}
	if f := readFiles(t, root); string(f.Local) != "# local" {
		t.Errorf("%+v", f)
	}
}

func TestReadFiles_IgnoresADirectoryNamedEnv(t *testing.T) {
	root := physicalTempDir(t)
	write(t, filepath.Join(root, ConfigName), "")
	write(t, filepath.Join(root, EnvName, "bin", "python"), "")
	if f := readFiles(t, root); f.DotEnv != nil {
		t.Errorf("%+v", f)
	}
}

func TestDigest_CoversEveryFile(t *testing.T) {
	root := physicalTempDir(t)
	config := filepath.Join(root, ConfigName)
	write(t, config, sshConfig+`key_file = "keys/id"
config_file = "./absent"
`)
	write(t, filepath.Join(root, "keys", "id"), "key")
	f := readFiles(t, root)
	if string(f.ReferencedFiles["keys/id"]) != "key" || len(f.ReferencedFiles) != 2 {
		t.Fatalf("%q", f.ReferencedFiles)
	}
	if absent, covered := f.ReferencedFiles["absent"]; !covered || absent != nil {
		t.Errorf("%q", f.ReferencedFiles)
	}
	seen := map[string]string{f.Digest(): "as it was"}
	for _, change := range []struct{ name, text string }{
		{EnvName, ""},
		{EnvName, "A=1"},
		{LocalName, ""},
		{LocalName, "# 1"},
		{"keys/id", "kez"},
		{"absent", ""},
		{"absent", "Host *"},
		{ConfigName, sshConfig + "# more\n"},
	} {
		write(t, filepath.Join(root, change.name), change.text)
		digest := readFiles(t, root).Digest()
		if was, same := seen[digest]; same {
			t.Errorf("%s = %q has the digest of %s", change.name, change.text, was)
		}
		seen[digest] = change.name + "=" + change.text
	}
}

func TestReadFiles_ReferencedFilesAreInsideTheRoot(t *testing.T) {
	top := physicalTempDir(t)
	root := filepath.Join(top, "root")
	write(t, filepath.Join(top, "outside"), "outside")
	write(t, filepath.Join(root, "inside"), "inside")
	for link, target := range map[string]string{
		filepath.Join(root, "out"):    "../outside",
		filepath.Join(root, "within"): "inside",
		filepath.Join(top, "in"):      "root/inside",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{
		`"../outside"`:          "",
		`"/etc/passwd"`:         "",
		`"~/.kube/config"`:      "",
		`"~nobody/x"`:           "",
		`"inside"`:              "inside",
		`"./x/../inside"`:       "inside",
		`"` + root + `/inside"`: "inside",
		`"within"`:              "within",
		`"../in"`:               "inside",
		`"out"`:                 "out",
		`"$$x"`:                 "$x",
		`"${X:-inside}"`:        "",
		`5`:                     "",
	} {
		write(t, filepath.Join(root, ConfigName), "anything.kubeconfig = "+text)
		named := readFiles(t, root).ReferencedFiles
		if _, ok := named[want]; len(named) > 1 || want != "" && !ok || want == "" && len(named) > 0 {
			t.Errorf("%s: %q, want %q", text, named, want)
		}
	}
	write(t, filepath.Join(root, ConfigName), `kubeconfig = "out"`)
	if named := readFiles(t, root).ReferencedFiles; strings.Contains(string(named["out"]), "outside") != true || string(named["out"]) == "outside" {
		t.Errorf("a link out of the root: %q", named)
	}
	write(t, filepath.Join(root, ConfigName), "kubeconfig = \"inside\"\nbroken")
	if named := readFiles(t, root).ReferencedFiles; len(named) != 0 {
		t.Errorf("from a file that is not TOML: %q", named)
	}
}

func TestParse_RejectsVariablesInPathsInsideTheRoot(t *testing.T) {
	root := physicalTempDir(t)
	write(t, filepath.Join(root, ConfigName), sshConfig+`config_file = "${WHERE}/config"`)
	for where, isValid := range map[string]bool{"/etc/ssh": true, "sub": false, root: false} {
		_, err := Parse(readFiles(t, root), Options{Technologies: BuiltIn, Getenv: lookupIn(map[string]string{"WHERE": where})})
		if isValid != (err == nil) {
			t.Errorf("WHERE=%s: %v", where, err)
		}
	}
}

func TestDigest_IsIndependentOfTheRoot(t *testing.T) {
	a, b := physicalTempDir(t), physicalTempDir(t)
	for _, root := range []string{a, b} {
		write(t, filepath.Join(root, ConfigName), `key_file = "id"`)
		write(t, filepath.Join(root, "id"), "key")
	}
	if readFiles(t, a).Digest() != readFiles(t, b).Digest() {
		t.Error("the same files have two digests")
	}
}

func TestDigest_DiffersForDifferentFiles(t *testing.T) {
	content := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a'}), 0, 3).Filter(func(b []byte) bool { return b != nil }))
	files := rapid.Custom(func(t *rapid.T) *Files {
		return &Files{
			Config: content.Draw(t, "config"), Local: content.Draw(t, "local"), DotEnv: content.Draw(t, "env"),
			ReferencedFiles: rapid.MapOfN(rapid.StringOfN(rapid.SampledFrom([]rune{0, 'a'}), 1, 2, -1), content, 0, 2).Draw(t, "named"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := files.Draw(t, "a"), files.Draw(t, "b")
		if same := sameFiles(a, b); same != (a.Digest() == b.Digest()) {
			t.Fatalf("%+v and %+v: same %v, digests %s %s", a, b, same, a.Digest(), b.Digest())
		}
	})
}

func sameFiles(a, b *Files) bool {
	same := func(x, y []byte) bool { return (x == nil) == (y == nil) && string(x) == string(y) }
	if !same(a.Config, b.Config) || !same(a.Local, b.Local) || !same(a.DotEnv, b.DotEnv) || len(a.ReferencedFiles) != len(b.ReferencedFiles) {
		return false
	}
	for name, data := range a.ReferencedFiles {
		if other, ok := b.ReferencedFiles[name]; !ok || !same(data, other) {
			return false
		}
	}
	return true
}

func TestHomeDir_IsThatOfThePasswordDatabase(t *testing.T) {
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil { // a container's user may have no entry: then it is HOME
		u = &user.User{HomeDir: "/nowhere"}
	}
	t.Setenv("HOME", "/nowhere")
	home, err := homeDir()
	if err != nil || home != u.HomeDir {
		t.Fatalf("%s, %v; want %s", home, err, u.HomeDir)
	}
	for path, want := range map[string]string{
		"~": home, "~/x": filepath.Join(home, "x"), "x": "/root/x", "./~": "/root/~", "/a/../b": "/b", "../x": "/x",
	} {
		if got, err := expandPath("/root", path); got != want || err != nil {
			t.Errorf("%s is %s, %v; want %s", path, got, err, want)
		}
	}
	if _, err := expandPath("/root", "~x/y"); !errors.Is(err, errOtherHome) {
		t.Errorf("~x/y: %v", err)
	}
}

func TestFiles_DescribeChangeNamesTheFilesThatDiffer(t *testing.T) {
	active := Files{Path: "/p/" + ConfigName, Config: []byte("a"), DotEnv: []byte("A=1"), ReferencedFiles: map[string][]byte{"certs/ca.pem": []byte("x"), "key": []byte("y")}}
	for _, tt := range []struct {
		name, want string
		change     func(*Files)
	}{
		{"an edit", ".env changed", func(f *Files) { f.DotEnv = []byte("A=2") }},
		{"a new file", ".localport.local.toml changed", func(f *Files) { f.Local = []byte{} }},
		{"a deleted one", ".env changed", func(f *Files) { f.DotEnv = nil }},
		{"several", ".localport.toml, .env and certs/ca.pem changed", func(f *Files) {
			f.Config, f.DotEnv, f.ReferencedFiles = nil, nil, map[string][]byte{"certs/ca.pem": nil, "key": []byte("y")}
		}},
		{"no longer named", ".localport.toml and key changed", func(f *Files) {
			f.Config, f.ReferencedFiles = []byte("b"), map[string][]byte{"certs/ca.pem": []byte("x")}
		}},
		{"nothing", "the config files changed", func(*Files) {}},
	} {
		changed := active
		tt.change(&changed)
		if got := changed.DescribeChange(active.Digests()); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := active.DescribeChange(nil); got != "the config files changed" {
		t.Errorf("without the digests of an older supervisor: %q", got)
	}
}
