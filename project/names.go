package project

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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

// LocalPort is a local port that a service names, at its local_address; empty: 127.0.0.1 and ::1.
type LocalPort struct {
	Service, Address string
	Port             int
}

// LocalPorts returns the local ports that the services name, sorted by service, also where the config has mistakes.
func (f *Files) LocalPorts() []LocalPort {
	var ports []LocalPort
	for _, text := range [][]byte{f.Config, f.Local} {
		var config struct {
			Services map[string]map[string]any `toml:"services"`
		}
		_ = toml.Unmarshal(text, &config)
		for name, service := range config.Services {
			if port, ok := service["local_port"].(int64); ok {
				address, _ := service["local_address"].(string)
				ports = append(ports, LocalPort{name, address, int(port)})
			}
		}
	}
	slices.SortStableFunc(ports, func(a, b LocalPort) int { return strings.Compare(a.Service, b.Service) })
	return ports
}

// HasVariable reports whether .env sets a variable.
func (f *Files) HasVariable(name string) bool {
	_, isSet := parseDotEnv("", f.DotEnv, func(string) (string, bool) { return "", false }).values[name]
	return isSet
}

// HasOldVersion reports whether a config gives its version in a form of the past: "1.0", or a number.
func HasOldVersion(text []byte) bool {
	var config struct {
		Version any `toml:"version"`
	}
	_ = toml.Unmarshal(text, &config) // of a file with mistakes, what comes before them
	switch version := config.Version.(type) {
	case string:
		return version == "1.0"
	case int64, float64:
		return fmt.Sprint(version) == "1"
	}
	return false
}
