// Package recipes contains ready-made services for a config, which connect through the proxies of cloud providers, and setups for programs
// that have no prompt.
package recipes

import (
	"embed"
	"path"
	"strings"
)

//go:embed *.toml
var files embed.FS

// Names returns the names of the services, sorted.
func Names() []string {
	entries, _ := files.ReadDir(".") // it cannot fail
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = strings.TrimSuffix(entry.Name(), path.Ext(entry.Name()))
	}
	return names
}

// Text returns a recipe: a comment, then a service in TOML or, for a Setup, its text. It returns false if there is no recipe of that name.
func Text(name string) (string, bool) {
	for _, s := range Setups() {
		if s.Name == name {
			return s.Text, true
		}
	}
	data, err := files.ReadFile(name + ".toml")
	return string(data), err == nil
}
