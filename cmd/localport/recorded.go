package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// findLiveConfig is the config at a path if its project is up or held by a lease, by what is recorded of it: neither the file nor
// its directory has to be there. Empty if there is none.
func findLiveConfig(path string) string {
	path = physicalPath(path)
	for _, config := range liveConfigs() {
		if config == path {
			return config
		}
	}
	return ""
}

// findLiveConfigAbove is the config of the nearest such project that a directory belongs to.
func findLiveConfigAbove(dir string) string {
	dir = physicalPath(dir)
	nearest := ""
	for _, config := range liveConfigs() {
		root := filepath.Dir(config)
		inside := dir == root || strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/")
		if filepath.Base(config) == project.ConfigName && inside && len(config) > len(nearest) {
			nearest = config
		}
	}
	return nearest
}

// liveConfigs are the configs of the projects of which a process lives or a lease counts.
func liveConfigs() []string {
	dirs, err := lockstate.ListDirs()
	if err != nil {
		return nil
	}
	var configs []string
	for _, dir := range dirs {
		state := dir.ReadOrZero()
		up := slices.ContainsFunc(state.Leases, lockstate.Lease.IsAlive)
		if s := state.Supervisor; s != nil && !up {
			_, kept := lockstate.FindProcess(s.Keeper)
			up = s.IsAlive() || s.Keeper > 0 && kept
		}
		if up {
			configs = append(configs, dir.Config)
		}
	}
	return configs
}

// physicalPath is the absolute path without symbolic links, as far as what it names is still there.
func physicalPath(path string) string {
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			wd = os.Getenv("PWD") // the name of a directory that was deleted is known to the shell alone
		}
		path = filepath.Join(wd, path)
	}
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
