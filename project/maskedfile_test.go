package project

import (
	"strings"
	"testing"
)

func TestMaskedFiles_ShowNoSecret(t *testing.T) {
	config := `#:schema x
# old password: hunter1
# a password is asked for
[services.db]
technology = "tcp"
remote_port = 5432 # the port
connection = { remote_host = "db.staging" }
health_check = { type = "postgres", user = "app", password = "abc", token = 'x"y' }
# db_pass = "hunter2"
[services.web]
health_check = { type = "http", password = "${WEB_PASSWORD}", headers = { Authorization = "Bearer dotenvvalue" } }
[env]
API_TOKEN = 12345
SECRET = """
two
lines"""
FALLBACK_SECRET = "${X:-plain}"
DATABASE_URL = "postgres://app:pw@${db.addr}/shop"
`
	files := &Files{
		Root: "/shop", Path: "/shop/" + ConfigName, Config: []byte(strings.ReplaceAll(config, "\n", "\r\n")), Local: []byte("a = 1\n"),
		DotEnv:          []byte("# x\nexport B=dotenvvalue\nA='two\nlines'\nB=again\n"),
		ReferencedFiles: map[string][]byte{"key": []byte("private"), "absent": nil},
	}
	want := `#:schema x
# old password: ***
# a password is asked for
[services.db]
technology = "tcp"
remote_port = 5432 # the port
connection = { remote_host = "db.staging" }
health_check = { type = "postgres", user = "app", password = "***", token = '***' }
# db_pass = ***
[services.web]
health_check = { type = "http", password = "${WEB_PASSWORD}", headers = { Authorization = "Bearer ***" } }
[env]
API_TOKEN = ***
SECRET = "***"
FALLBACK_SECRET = "***"
DATABASE_URL = "postgres://***@${db.addr}/shop"
`
	got := files.MaskedFiles([]string{"dotenvvalue"})
	if len(got) != 4 || got[0].Name != ConfigName || got[1].Name != LocalName || got[2].Name != EnvName || got[3].Name != "key" {
		t.Fatalf("%+v", got)
	}
	if text := strings.ReplaceAll(got[0].Text, "\r\n", "\n"); text != want || strings.Count(got[0].Text, "\n") != strings.Count(got[0].Text, "\r\n") {
		t.Errorf("the config is shown as\n%s\nwant\n%s", text, want)
	}
	if got[1].Text != "a = 1\n" || got[2].Text != "A=***\nB=***\n" || got[3].Text != "" {
		t.Errorf("%+v", got[1:])
	}
	for i, file := range got {
		if len(file.Digest) != 64 || i > 0 && file.Digest == got[0].Digest {
			t.Errorf("the digest of %s is %q", file.Name, file.Digest)
		}
	}
	files.Config = []byte("[services")
	if got := files.MaskedFiles(nil); got[0].Text != "" {
		t.Errorf("a config that is not TOML is shown as %q", got[0].Text)
	}
}
