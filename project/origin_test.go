package project

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseSettings_NamesTheOriginOfEveryValue(t *testing.T) {
	files := &Files{
		Root: "/shop", Path: "/shop/" + ConfigName, LocalPath: "/shop/" + LocalName, DotEnvPath: "/shop/" + EnvName,
		Config: []byte(`[defaults]
connection = { namespace = "shop", context = "${CONTEXT:-kind}" }
health_check = { interval = "5s", password = "hunter22" }
[services.db]
technology = "kubectl"
local_port = 5432
remote_port = 5432
connection.resource_name = "${DB_NAME}"
health_check = { type = "postgres", password = "${DB_PASSWORD}", database = "${REGION}-${DB_NAME}" }
tags = ["a", "b-${REGION}"]
`),
		Local:  []byte("[services.db]\nlocal_port = 6432\n"),
		DotEnv: []byte("# names\nDB_NAME=orders\nDB_PASSWORD=s3cr3t\n"),
	}
	env := map[string]string{"REGION": "eu"}
	_, settings, err := ParseSettings(files, Options{
		Getenv:       func(name string) (string, bool) { value, ok := env[name]; return value, ok },
		Technologies: BuiltIn, Checks: []CheckType{{Name: "postgres", Keys: []Key{{Name: "password", Secret: true}, {Name: "database"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range settings["db"] {
		fmt.Fprintf(&b, "%s = %s  # %s\n", s.Key, s.Value, s.Origin.Describe("/shop"))
	}
	want := `technology = "kubectl"  # .localport.toml:5
local_port = 6432  # .localport.local.toml:2
remote_port = 5432  # .localport.toml:7
connection.resource_name = "orders"  # .localport.toml:8, ${DB_NAME} from .env:2
health_check.type = "postgres"  # .localport.toml:9
health_check.password = "***"  # .localport.toml:9, ${DB_PASSWORD} from .env:3
health_check.database = "eu-orders"  # .localport.toml:9, ${REGION} from the environment, ${DB_NAME} from .env:2
tags = ["a", "b-eu"]  # .localport.toml:10, ${REGION} from the environment
connection.namespace = "shop"  # .localport.toml:2
connection.context = "kind"  # .localport.toml:2, ${CONTEXT} from its default
health_check.interval = "5s"  # .localport.toml:3
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
