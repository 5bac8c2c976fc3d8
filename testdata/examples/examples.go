// Package examples has configs for common situations. Each is a directory with the files that such a project has; "localport init --example"
// writes the config of one.
package examples

import (
	"embed"
	"path"
	"strings"
)

//go:embed all:*/.localport.toml
var configs embed.FS

// Example is a project.
type Example struct {
	Name  string // of the directory
	Title string
	// Files are those that belong to it besides the config, in the directory.
	Files []string
}

// All are the examples, the simplest first.
var All = []Example{
	{Name: "postgres", Title: "one PostgreSQL in a Kubernetes cluster"},
	{Name: "microservices", Title: "many services of a cluster, with tags and dependencies"},
	{Name: "bastion", Title: "internal hosts behind an ssh server"},
	{Name: "socks", Title: "a SOCKS proxy, and a server that reaches your machine"},
	{Name: "cloud-sql", Title: "a program as the tunnel: Google Cloud SQL, with login"},
	{Name: "compose", Title: "local development with docker compose", Files: []string{"compose.yml"}},
	{Name: "monorepo", Title: "a monorepo: nested projects and git worktrees", Files: []string{"api/.localport.toml"}},
	{Name: "ci", Title: "tests in CI with localport exec", Files: []string{".github/workflows/test.yml"}},
}

// Names returns the names of the examples.
func Names() []string {
	names := make([]string, len(All))
	for i, example := range All {
		names[i] = example.Name
	}
	return names
}

// Config returns the text of an example's config; false if there is no such example.
func Config(name string) (string, bool) {
	if strings.Contains(name, "/") {
		return "", false
	}
	data, err := configs.ReadFile(path.Join(name, ".localport.toml"))
	return string(data), err == nil
}
