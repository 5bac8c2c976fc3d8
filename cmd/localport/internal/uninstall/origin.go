package uninstall

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// queryTimeout is how long a package manager may take to say which package a file is from.
const queryTimeout = 5 * time.Second

// RemovalCommand returns the command that removes the program, which depends on how it was installed, and what installed it.
func RemovalCommand(ctx context.Context, exe, quoted string) (command, installedBy string) {
	real, err := filepath.EvalSymlinks(exe)
	if err != nil {
		real = exe
	}
	switch {
	case strings.Contains(real, "/Cellar/"):
		return "brew uninstall localport", "Homebrew"
	case strings.HasPrefix(real, "/nix/store/"):
		return "nix profile remove localport", "Nix"
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if _, err := exec.LookPath("dpkg-query"); err == nil { // there, rpm would make a database in the home directory
		out, err := query(ctx, "dpkg-query", "--search", real)
		if name, _, ok := strings.Cut(out, ": "); ok && err == nil {
			return "sudo apt remove " + name, "the package " + name
		}
	} else if out, err := query(ctx, "rpm", "--query", "--file", "--queryformat", "%{NAME}", real); err == nil && out != "" && !strings.Contains(out, " ") {
		return "sudo dnf remove " + out, "the package " + out
	}
	return "rm " + quoted, ""
}

func query(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
