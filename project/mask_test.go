package project

import (
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
