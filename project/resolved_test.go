package project

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func resolvedTestFiles() *Files {
	return &Files{
		Root: "/p", Path: "/p/" + ConfigName, LocalPath: "/p/" + LocalName, DotEnvPath: "/p/" + EnvName,
		DotEnv: []byte("DB_PASSWORD=opensesame\n"), Local: []byte("[services.db]\nlocal_port = 15432\n"),
		Config: []byte(`metrics_port = 9100
[defaults]
connect_timeout = "90s"
[services.db]
technology = "ssh"
local_port = 5432
remote_port = 5432
tags = ["a", "x-opensesame"]
connection = { host = "bastion", options = { ServerAliveInterval = 10 } }
health_check = { type = "http", expected_status = [200, 204], headers = { Authorization = "Bearer ${DB_PASSWORD}", Accept = "a/b" } }
[services.redis]
technology = "tcp"
local_port = 6379
remote_port = 6379
connection = { remote_host = "h" }
health_check = { type = "redis", password = "hunter2hunter" }
restart_policy = { backoff_multiplier = 1.5 }
[env]
URL = "postgres://app:s3cr3t@${db.addr}/${HOME}"
NONE = "${NOT_SET}"
KEY = "opensesame"
`),
	}
}

func resolvedTestOptions() Options {
	o := builtInOptions()
	o.Getenv = func(name string) (string, bool) { return "you", name == "HOME" }
	return o
}

func TestResolve_SaysWhereEachValueComesFrom(t *testing.T) {
	values, err := resolvedTestFiles().Resolve(resolvedTestOptions())
	if err != nil {
		t.Fatal(err)
	}
	find := func(service, key string) ResolvedValue {
		at := slices.IndexFunc(values, func(v ResolvedValue) bool { return v.Service == service && v.Key == key })
		if at < 0 {
			t.Fatalf("%s.%s is missing", service, key)
		}
		return values[at]
	}
	for _, want := range []struct {
		service, key string
		value        any
		origin       string
	}{
		{"", "linger", 10 * time.Second, ""},
		{"", "metrics_port", 9100, ".localport.toml:1"},
		{"db", "local_port", 15432, ".localport.local.toml:2"},
		{"db", "connect_timeout", 90 * time.Second, ".localport.toml:3"},
		{"db", "tags", []string{"a", "x-***"}, ".localport.toml:8"},
		{"db", "connection.options", map[string]string{"ServerAliveInterval": "10"}, ".localport.toml:9"},
		{"db", "health_check.expected_status", []int{200, 204}, ".localport.toml:10"},
		{"db", "health_check.headers", map[string]string{"Authorization": "***", "Accept": "a/b"}, ".localport.toml:10, ${DB_PASSWORD} from .env:1"},
		{"redis", "health_check.password", "***", ".localport.toml:16"},
		{"redis", "start", "always", ""},
		{"", "env.URL", "postgres://***@127.0.0.1:15432/you", ".localport.toml:19, ${HOME} from the environment"},
	} {
		got := find(want.service, want.key)
		origin := ""
		if got.Origin.Path != "" {
			origin = got.Origin.Describe("/p")
		}
		if !reflect.DeepEqual(got.Value, want.value) || origin != want.origin {
			t.Errorf("%s.%s is %#v from %q, want %#v from %q", want.service, want.key, got.Value, origin, want.value, want.origin)
		}
	}
	if none := find("", "env.NONE"); none.Value != nil || none.Problem == "" {
		t.Errorf("%+v", none)
	}
	if _, err := (&Files{Root: "/p", Path: "/p/x", Config: []byte("x")}).Resolve(Options{}); err == nil {
		t.Error("an invalid config was resolved")
	}
}

func TestWritten_MarksWhatHoldsASecret(t *testing.T) {
	entries, err := resolvedTestFiles().Written(resolvedTestOptions())
	if err != nil {
		t.Fatal(err)
	}
	secrets, passwords := map[string]bool{}, map[string]string{}
	var walk func(entries []WrittenEntry)
	walk = func(entries []WrittenEntry) {
		for _, entry := range entries {
			if inner, ok := entry.Value.([]WrittenEntry); ok {
				walk(inner)
			}
			if entry.HoldsSecret {
				secrets[entry.Key], passwords[entry.Key] = true, entry.URLPassword
			}
		}
	}
	walk(entries)
	want := map[string]bool{"Authorization": true, "password": true, "URL": true, "KEY": true}
	if !reflect.DeepEqual(secrets, want) || passwords["URL"] != "s3cr3t" || passwords["password"] != "" {
		t.Errorf("%v %v", secrets, passwords)
	}
	if _, err := (&Files{Root: "/p", Path: "/p/x", Config: []byte("x")}).Written(Options{}); err == nil {
		t.Error("an invalid config was written")
	}
}

func TestHasOldVersion_KnowsEarlierForms(t *testing.T) {
	for text, want := range map[string]bool{"version = \"1.0\"": true, "version = 1": true, "version = 1.0": true, "version = \"1\"": false, "": false, "version = 2": false} {
		if HasOldVersion([]byte(text)) != want {
			t.Errorf("%q", text)
		}
	}
}
