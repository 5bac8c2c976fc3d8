package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// findLiveConfig returns the config at path, with symbolic links resolved, if its project is running or has a lease according to the
// state directories; else "". The file and its directory may have been deleted.
func findLiveConfig(path string) string {
	path = physicalPath(path)
	for _, config := range liveConfigs() {
		if config == path {
			return config
		}
	}
	return ""
}

// findLiveConfigAbove returns the config of the nearest project that contains dir and is running or has a lease; else "".
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

// liveConfigs returns the configs of all projects that have a running supervisor or keeper, or a lease.
func liveConfigs() []string {
	dirs, err := lockstate.ListDirs()
	if err != nil {
		return nil
	}
	var configs []string
	for _, dir := range dirs {
		state := dir.ReadOrZero()
		isLive := slices.ContainsFunc(state.Leases, lockstate.Lease.IsAlive)
		if s := state.Supervisor; s != nil && !isLive {
			_, hasKeeper := lockstate.FindProcess(s.Keeper)
			isLive = s.IsAlive() || s.Keeper > 0 && hasKeeper
		}
		if isLive {
			configs = append(configs, dir.Config)
		}
	}
	return configs
}

// physicalPath returns the absolute path, with symbolic links resolved in the part of it that exists.
func physicalPath(path string) string {
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			wd = os.Getenv("PWD") // only the shell knows the name of a deleted directory
		}
		path = filepath.Join(wd, path)
	}
	rest := ""
	for existing := path; ; existing = filepath.Dir(existing) {
		if real, err := filepath.EvalSymlinks(existing); err == nil {
			return filepath.Join(real, rest)
		}
		if existing == filepath.Dir(existing) {
			return path
		}
		rest = filepath.Join(filepath.Base(existing), rest)
	}
}
