package project

import (
	"reflect"
	"strings"
	"testing"
)

func TestResolveEnv_ResolvesEntries(t *testing.T) {
	entries := []EnvEntry{
		{Name: "URL", Template: "postgres://${USER:-me}:${PW}@${my-db.addr}/x"},
		{Name: "HOST", Template: "${my-db.host}"},
		{Name: "PATH", Template: "bin:${PATH}"},
		{Name: "LOST", Template: "${cache.port}${NOT_LOOKED_AT}"},
		{Name: "HIDDEN", Template: "${PATH:-${cache.port}}"},
		{Name: "DOLLAR", Template: "$$5"},
	}
	got := ResolveEnv(entries, EnvScope{
		Lookup: lookupIn(map[string]string{"PATH": "/bin", "PW": "env"}),
		DotEnv: map[string]string{"PW": "dotenv", "USER": "you"},
		Services: map[string]Endpoint{
			"my-db": {Host: "::1", Port: 5432, IsOurs: true},
			"cache": {Host: "127.0.0.1", Port: 6379},
		},
	})
	want := ResolvedEnv{
		Variables: []Variable{
			{"URL", "postgres://you:env@[::1]:5432/x", false},
			{"HOST", "::1", false},
			{"PATH", "bin:/bin", true},
			{"DOLLAR", "$5", false},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestResolveEnv_ReportsWhyAnEntryIsUnresolved(t *testing.T) {
	got := ResolveEnv([]EnvEntry{
		{Name: "A", Template: "1"},
		{Name: "B", Template: "secret ${A}", Path: "/p/" + ConfigName, Line: 3, Col: 5},
		{Name: "C", Template: "secret ${MY_DB_PORT}"},
		{Name: "D", Template: "secret ${NOPE:?set it}"},
		{Name: "E", Template: "secret ${"},
		{Name: "F", Template: "secret ${gone.port}"},
	}, EnvScope{Services: map[string]Endpoint{"my-db": {Host: "127.0.0.1", Port: 1, IsOurs: true}}})
	wants := []string{
		"/p/.localport.toml:3:5: env.B: variable A is not set in the environment or in .env; entries of [env] cannot refer to each other",
		"use ${my-db.port}",
		"env.D: variable NOPE is not set or is empty: set it",
		`env.E: missing "}"`, // Parse has refused it
		`unknown service "gone"`,
	}
	if len(got.Errors) != len(wants) || len(got.Variables) != 1 {
		t.Fatalf("%+v", got)
	}
	for i, want := range wants {
		if text := got.Errors[i].String(); !strings.Contains(text, want) || strings.Contains(text, "secret") {
			t.Errorf("got  %s\nwant %s", text, want)
		}
	}
}
