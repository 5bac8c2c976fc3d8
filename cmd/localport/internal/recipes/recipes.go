// Package recipes holds services that are reached through other people's bastions, ready to be put into a config.
package recipes

import (
	"embed"
	"path"
	"strings"
)

//go:embed *.toml
var files embed.FS

// Names are those of the recipes, in order.
func Names() []string {
	entries, _ := files.ReadDir(".") // which cannot fail
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = strings.TrimSuffix(entry.Name(), path.Ext(entry.Name()))
	}
	return names
}

// Text is a recipe's: a comment, and a service of a config.
func Text(name string) (string, bool) {
	data, err := files.ReadFile(name + ".toml")
	return string(data), err == nil
}
