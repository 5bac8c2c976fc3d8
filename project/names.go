package project

import (
	"maps"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// Names returns the names of the services and of their tags, sorted, also where the config has mistakes. Below a mistake of syntax, names may be
// missing.
func (f *Files) Names() (services, tags []string) {
	isService, isTag := make(map[string]bool), make(map[string]bool)
	for _, text := range [][]byte{f.Config, f.Local} {
		var config struct {
			Services map[string]map[string]any `toml:"services"`
		}
		_ = toml.Unmarshal(text, &config) // what comes before a mistake is in config all the same
		for name, service := range config.Services {
			isService[name] = true
			list, _ := service["tags"].([]any)
			for _, tag := range list {
				if text, ok := tag.(string); ok {
					isTag[text] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(isService)), slices.Sorted(maps.Keys(isTag))
}
