package edit

import (
	"errors"
	"strings"
	"testing"
)

const shop = `#:schema ./schema.json

# The database.
[services.db]   # staging
technology = "tcp"
local_port = 5432 # taken from the wiki
connection = { remote_host = "db.staging" }
# health_check = { type = "postgres" }

[services.db.restart_policy]
max_attempts = 3

# Cache, see
# the wiki.
[services.cache]
technology = "tcp"
local_port = 6379
depends_on = ["db", 'web']

# ---- variables ----

# Used by the app.
[env]
URL = "x://${db.addr}"
`

const webTable = "[services.web]\ntechnology = \"tcp\"\nlocal_port = 8080\n"

func TestAddService_InsertsItBelowTheLastService(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", webTable},
		"only a comment":       {"# mine\n", "# mine\n\n" + webTable},
		"no newline at end":    {"linger = \"30s\"", "linger = \"30s\"\n\n" + webTable},
		"blank line at end":    {"linger = \"30s\"\n\n", "linger = \"30s\"\n\n" + webTable},
		"below other services": {shop, strings.Replace(shop, "# Used by", webTable+"\n# Used by", 1)},
		"inline services": {
			"[services]\ndb = { technology = \"tcp\" }\n[env]\nA = \"b\"\n",
			"[services]\ndb = { technology = \"tcp\" }\n\n" + webTable + "\n[env]\nA = \"b\"\n",
		},
		"dotted services": {
			"services.db.technology = \"tcp\"\n[env]\nA = \"b\"\n",
			"services.db.technology = \"tcp\"\n[env]\nA = \"b\"\n\n" + webTable,
		},
		"CRLF": {"linger = \"30s\"\r\n", "linger = \"30s\"\r\n\r\n" + strings.ReplaceAll(webTable, "\n", "\r\n")},
		"BOM":  {"\ufefflinger = \"30s\"\n", "\ufefflinger = \"30s\"\n\n" + webTable},
	} {
		if got, err := AddService([]byte(c.text), "web", webTable); err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

func TestAddService_RefusesWhatItCannotDo(t *testing.T) {
	_, err := AddService([]byte(shop), "db", "[services.db]\nlocal_port = 1\n")
	if exists, ok := errors.AsType[*ExistsError](err); !ok || exists.Line != 4 {
		t.Errorf("an existing name: %v", err)
	}
	_, err = AddService([]byte("# x\nservices = { db = { technology = \"tcp\" } }\n"), "web", webTable)
	if unsupportedAt, ok := errors.AsType[*UnsupportedSyntaxError](err); !ok || unsupportedAt.Line != 2 || unsupportedAt.Col != 1 || unsupportedAt.Reason != "services is an inline table" {
		t.Errorf("an inline table: %+v", err)
	}
	for _, table := range []string{"", "[services.other]\na = 1\n", webTable + "[env]\nA = \"b\"\n", "web = 1", "[services.web"} {
		if got, err := AddService([]byte(shop), "web", table); err == nil {
			t.Errorf("the text %q was added: %s", table, got)
		}
	}
	if _, err = AddService([]byte("[services"), "web", webTable); !errors.As(err, new(*SyntaxError)) {
		t.Errorf("a file that is not TOML: %v", err)
	}
}

func TestRemoveService_TakesItsCommentsAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct{ text, service, want string }{
		"the first": {shop, "db", "#:schema ./schema.json\n\n" + shop[strings.Index(shop, "# Cache"):]},
		"the last": {
			shop, "cache",
			shop[:strings.Index(shop, "# Cache")] + shop[strings.Index(shop, "# ----"):],
		},
		"the only one":      {webTable, "web", ""},
		"at the end":        {"linger = \"30s\"\n\n" + webTable, "web", "linger = \"30s\"\n"},
		"no newline at end": {"linger = \"30s\"\n\n" + strings.TrimSpace(webTable), "web", "linger = \"30s\"\n"},
		"in [services]": {
			"[services]\n# the web\nweb = { technology = \"tcp\" }\ndb = { technology = \"tcp\" }\n", "web",
			"[services]\ndb = { technology = \"tcp\" }\n",
		},
		"dotted keys": {
			"services.web.technology = \"tcp\"\nservices.db.technology = \"tcp\"\nservices.web.local_port = 1\n", "web",
			"services.db.technology = \"tcp\"\n",
		},
		"a quoted name":    {"[ services . \"my web\" ]\nlocal_port = 1\n[env]\nA = \"b\"\n", "my web", "[env]\nA = \"b\"\n"},
		"in several parts": {"[services.web]\na = 1\n[services.db]\nb = 1\n# sub\n[services.web.c]\nd = 1\n", "web", "[services.db]\nb = 1\n"},
		"a comment of the next table": {
			"[services.web]\na = 1\n# about db\n[services.db]\nb = 1\n", "web", "# about db\n[services.db]\nb = 1\n",
		},
		"multi-line strings": {
			"[services.web]\na = \"\"\"\n[services.db]\n# x\n\"\"\"\n[services.db]\nb = '''\n[services.web]'''\n", "web",
			"[services.db]\nb = '''\n[services.web]'''\n",
		},
		"CRLF": {"linger = \"30s\"\r\n\r\n[services.web]\r\na = 1\r\n\r\n[env]\r\nA = \"b\"\r\n", "web", "linger = \"30s\"\r\n\r\n[env]\r\nA = \"b\"\r\n"},
	} {
		if got, err := RemoveService([]byte(c.text), c.service); err != nil || string(got) != c.want || got == nil {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

func TestRemoveService_RefusesWhatItCannotDo(t *testing.T) {
	if _, err := RemoveService([]byte(shop), "dbb"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown name: %v", err)
	}
	_, err := RemoveService([]byte("\n  services = { db = { technology = \"tcp\" } }\n"), "db")
	if unsupportedAt, ok := errors.AsType[*UnsupportedSyntaxError](err); !ok || unsupportedAt.Line != 2 || unsupportedAt.Col != 3 || unsupportedAt.Advice != `remove the entry "db" from it` {
		t.Errorf("an inline table: %+v", err)
	}
	if _, err := RemoveService([]byte("services = { db = { technology = \"tcp\" } }\n"), "web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown name beside an inline table: %v", err)
	}
}

func TestSetKey_ReplacesOrAddsOneLine(t *testing.T) {
	for name, c := range map[string]struct{ text, key, value, want string }{
		"a value":         {shop, "services.db.local_port", "1", strings.Replace(shop, "= 5432", "= 1", 1)},
		"a new key":       {shop, "services.cache.enabled", "false", strings.Replace(shop, "'web']\n", "'web']\nenabled = false\n", 1)},
		"a top-level key": {shop, "linger", `"5s"`, strings.Replace(shop, "# The database", "linger = \"5s\"\n\n# The database", 1)},
		"in an empty file": {
			"", "linger", `"5s"`, "linger = \"5s\"\n",
		},
		"in a new table": {"a = 1", "env.A", `"b"`, "a = 1\n\n[env]\nA = \"b\"\n"},
		"in a new subtable": {
			shop, "services.cache.health_check.type", `"redis"`,
			strings.Replace(shop, "# Used", "[services.cache.health_check]\ntype = \"redis\"\n\n# Used", 1),
		},
		"beside a dotted key": {"\tservices.db.a = 1", "services.db.b", "2", "\tservices.db.a = 1\n\tservices.db.b = 2\n"},
		"a multi-line value":  {"a = [ # x\n 1,\n]# y\nb = 1", "a", "2", "a = 2# y\nb = 1"},
		"CRLF":                {"a = 1\r\n", "b", "2", "a = 1\r\nb = 2\r\n"},
		"a key with controls": {"", "a\a\x7f", "1", `"a\u0007\u007f" = 1` + "\n"},
	} {
		if got, err := SetKey([]byte(c.text), strings.Split(c.key, "."), c.value); err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

func TestSetKey_RefusesWhatItCannotDo(t *testing.T) {
	_, err := SetKey([]byte(shop), []string{"services", "db", "connection", "remote_host"}, `"x"`)
	if unsupportedAt, ok := errors.AsType[*UnsupportedSyntaxError](err); !ok || unsupportedAt.Line != 7 || unsupportedAt.Col != 14 || unsupportedAt.Advice != `write remote_host = "x" there` {
		t.Errorf("an inline table: %+v", err)
	}
	for _, value := range []string{"", "x", "1\nb = 2", "1 # x\n[y]"} {
		if got, err := SetKey([]byte(shop), []string{"linger"}, value); err == nil {
			t.Errorf("the value %q was set: %s", value, got)
		}
	}
}

func TestRemoveKey_RemovesItsLines(t *testing.T) {
	text := "[env]\n# about A\nA = \"\"\"\nx\"\"\" # more\nB = \"b\"\n"
	if got, err := RemoveKey([]byte(text), []string{"env", "A"}); err != nil || string(got) != "[env]\nB = \"b\"\n" {
		t.Errorf("%v: %s", err, got)
	}
	if _, err := RemoveKey([]byte(text), []string{"env", "C"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := RemoveKey([]byte("env = { A = \"b\" }"), []string{"env", "A"}); !errors.As(err, new(*UnsupportedSyntaxError)) {
		t.Errorf("an inline table: %v", err)
	}
}

func TestRemoveEmptyTable_KeepsComments(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\n\n[env]\n":                 "a = 1\n",
		"a = 1\r\n\r\n[env]\r\n":           "a = 1\r\n",
		"[env]":                            "",
		"[env]\n\n[services.web]\nb = 1\n": "[services.web]\nb = 1\n",
		"a = 1\n\n# The app's.\n[env]\n# B = \"c\"\n\n[defaults]\n": "a = 1\n\n# The app's.\n# B = \"c\"\n\n[defaults]\n",
		"a = 1\n[ env ] # ours\n":                                   "a = 1\n# ours\n",
		"[\"env\"]\n[services.web]\n":                               "[services.web]\n",
		"[env]\nA = \"b\"\n":                                        "[env]\nA = \"b\"\n",
		"[env.x]\ny = 1\n":                                          "[env.x]\ny = 1\n",
		"env = {}\n":                                                "env = {}\n",
		"a = \"\"\"\n[env]\n\"\"\"\n":                               "a = \"\"\"\n[env]\n\"\"\"\n",
	} {
		if got, err := RemoveEmptyTable([]byte(text), "env"); err != nil || string(got) != want {
			t.Errorf("%q: %v, %q, want %q", text, err, got, want)
		}
	}
}

func TestIsEmpty_IsAboutKeysOnly(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "\n # x\n\t\n": true, "\ufeff#:schema x": true, "[env]\n[services.web]\n": true, "a = 1": false, "[env]\nA = \"\"\n": false, "[x": false,
	} {
		if IsEmpty([]byte(text)) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
}

func TestRemoveItem_KeepsTheOtherItems(t *testing.T) {
	for text, want := range map[string]string{
		`a = ["x", "y", "z"]`:              `a = ["y", "z"]`,
		`a = ["y", 'x', "z"]`:              `a = ["y", "z"]`,
		`a = [ "y", "x" ]`:                 `a = [ "y" ]`,
		`a = ["y", "x",]`:                  `a = ["y",]`,
		`a = ["x", "y", "x"]`:              `a = ["y"]`,
		`a = ["x", "x"]`:                   ``,
		"b = 1\na = [\"x\"]":               "b = 1\n",
		"a = [\n  \"y\",\n  \"x\", # c\n]": "a = [\n  \"y\", # c\n]",
	} {
		if got, err := RemoveItem([]byte(text), []string{"a"}, "x"); err != nil || string(got) != want {
			t.Errorf("%q: %v, %q, want %q", text, err, got, want)
		}
	}
	if _, err := RemoveItem([]byte(`a = ["y"]`), []string{"a"}, "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown item: %v", err)
	}
}
