package project

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMask_LeavesNoSecret(t *testing.T) {
	secret := rapid.OneOf(rapid.StringMatching(`[ab*]{4,8}`), rapid.StringN(4, 12, -1))
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(secret, 0, 5).Draw(t, "secrets")
		pieces := []*rapid.Generator[string]{rapid.StringMatching(`[ab*]{0,9}`), rapid.String()}
		if len(secrets) > 0 {
			pieces = append(pieces, rapid.SampledFrom(secrets))
		}
		text := strings.Join(rapid.SliceOfN(rapid.OneOf(pieces...), 0, 6).Draw(t, "pieces"), "")
		got := Mask(text, secrets)
		for _, s := range secrets {
			if len(s) >= minSecretLength && strings.Contains(got, s) {
				t.Fatalf("Mask(%q, %q) = %q", text, secrets, got)
			}
		}
	})
}

func TestMask_HidesOnlySecrets(t *testing.T) {
	secrets := []string{"pass", "password1", "1", "", "dev", "word12"}
	for text, want := range map[string]string{
		"":                                "",
		"nothing to see, dev 1":           "nothing to see, dev 1",
		"password1!":                      "***!",
		"password12":                      "***",
		"pass pass":                       "*** ***",
		"passpass":                        "***",
		"postgres://app:x@host/db":        "postgres://***@host/db",
		"https://t0ken@host":              "https://***@host",
		"a://u:p@@h b://v:q@i":            "a://***@h b://***@i",
		"https://host/path?mail=me@x.org": "https://host/path?mail=me@x.org",
		"dial tcp://127.0.0.1:5432: no":   "dial tcp://127.0.0.1:5432: no",
	} {
		if got := Mask(text, secrets); got != want {
			t.Errorf("Mask(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestParse_CollectsSecrets(t *testing.T) {
	root := physicalTempDir(t)
	write(t, root+"/"+ConfigName, `
[services.a]
technology = "command"
local_port = 1
command = ["x", "{port}", "https://u:in%40url@h", "${API_TOKEN}", "${PLAIN}"]
[env]
DB_PASSWORD = "literal-password"
URL = "x://u:${FROM_ENV}@h"
`)
	write(t, root+"/"+EnvName, "DOT=dotted\nMULTI=\"line one\nline two\"\n")
	p, err := Parse(readFiles(t, root), Options{Technologies: BuiltIn, Getenv: lookupIn(map[string]string{
		"API_TOKEN": "api-token-value", "PLAIN": "plain-value", "FROM_ENV": "from-env-value",
	})})
	if err != nil {
		t.Fatal(err)
	}
	all := "\x00" + strings.Join(p.Secrets, "\x00") + "\x00"
	for _, want := range []string{
		"in%40url", "in@url", "api-token-value", "literal-password", "from-env-value", "dotted", "line one", "line two",
	} {
		if !strings.Contains(all, "\x00"+want+"\x00") {
			t.Errorf("%q is not among %q", want, p.Secrets)
		}
	}
	if strings.Contains(all, "plain-value") {
		t.Errorf("%q", p.Secrets)
	}
}

// A hint that masks what status shows in the target is of no use.
func TestParse_WhatTheTargetShowsIsNoSecret(t *testing.T) {
	root := physicalTempDir(t)
	write(t, root+"/"+ConfigName, `
[services.a]
technology = "tcp"
local_port = 1
remote_port = "${DB_PORT}"
connection = { remote_host = "${DB_HOST}" }
[services.b]
technology = "tcp"
local_port = 2
remote_port = 8080
connection = { remote_host = "${B_TOKEN}" }
[services.c]
technology = "ssh"
local_port = 3
remote_port = 80
connection = { host = "${SUB}.example.com", user = "${LOGIN}", port = 2222 }
`)
	write(t, root+"/"+EnvName, "DB_HOST=db.internal\nDB_PORT=15432\nOTHER=other.internal\nB_TOKEN=token.internal\nAUTH=db.internal-key\nSHORT=dev\n"+
		"WEB_PORT=8080\nSUB=staging\nLOGIN=deploy\nSSH_PORT=2222\n")
	p, err := Parse(readFiles(t, root), Options{Technologies: BuiltIn})
	if err != nil {
		t.Fatal(err)
	}
	const text = "dev: dial db.internal:15432, other.internal, token.internal:8080, db.internal-key, deploy@staging.example.com:2222"
	if got, want := Mask(text, p.Secrets), "dev: dial db.internal:15432, ***, ***:8080, ***, ***@staging.example.com:2222"; got != want {
		t.Errorf("masked: %s, want %s", got, want)
	}
	const target = "ssh deploy@token.internal → db.internal:15432"
	for i, want := range []string{target, "ssh deploy@*** → db.internal:15432", "ssh ***@token.internal → db.internal:15432"} {
		if got := p.Services[i].MaskTarget(target); got != want {
			t.Errorf("the target of %s: %s, want %s", p.Services[i].Name, got, want)
		}
	}
	var warned []string
	for _, warning := range p.Warnings {
		warned = append(warned, warning.Message)
	}
	want := []string{
		"services.b.connection.remote_host: B_TOKEN has the name of a secret, so its value is masked in the target that status shows; if it is none, rename the variable",
		"services.c.connection.user: LOGIN comes from .env, and other users can read the arguments of a process; set what LOGIN holds in ~/.ssh/config instead",
	}
	if !slices.Equal(warned, want) {
		t.Errorf("the warnings are %q, want %q", warned, want)
	}
}

func TestReadFiles_WarnsOfADotEnvThatCannotBeUsed(t *testing.T) {
	for name, test := range map[string]struct {
		create func(path string) error
		want   string
	}{
		"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory, so no variables are read from it; rename it if it is not meant to be one"},
		"broken link": {
			func(path string) error { return os.Symlink("/no/such/file", path) },
			"is a symbolic link to /no/such/file, which does not exist, so no variables are read from it; correct or remove the link",
		},
		"virtual environment of Python": {func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"/pyvenv.cfg", nil, 0o600))
		}, ""},
		"file": {func(path string) error { return os.WriteFile(path, []byte("A=1\n"), 0o600) }, ""},
	} {
		root := physicalTempDir(t)
		write(t, root+"/"+ConfigName, "[services.a]\ntechnology = \"tcp\"\nlocal_port = 1\nremote_port = 2\nconnection = { remote_host = \"h\" }\n")
		if err := test.create(root + "/" + EnvName); err != nil {
			t.Fatal(err)
		}
		p, err := Parse(readFiles(t, root), Options{Technologies: BuiltIn})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, warning := range p.Warnings {
			got = append(got, warning.String())
		}
		want := []string(nil)
		if test.want != "" {
			want = []string{root + "/" + EnvName + ": " + test.want}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the warnings are %q, want %q", name, got, want)
		}
	}
}

func TestMaskUserinfo_MasksWhatThePatternMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"://", ":", "/", "@", "a", "é", "\xff", " ", "\n", "\v", "?", "'", "://u:p@h"})).Draw(t, "text"), "")
		if got, want := maskUserinfo(text), userinfoPattern().ReplaceAllString(text, "://"+mask+"@"); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	})
}
