package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/cmd/localport/internal/doctor"
)

// In WSL 1 the kernel's release says so; in a mount namespace, another file is in its place. What PowerShell would run is replaced by the release of WSL 2.
func TestDoctor_WSLNamespaceIsConverted(t *testing.T) {
	t.Parallel()
	w := newDoctorEnv(t)
	w.env = append(w.env, "WSL_DISTRO_NAME=Debian")
	args := unshareArgs(t, "--mount")
	release := filepath.Join(w.home, "osrelease")
	diagnose := func() map[string][]doctor.Finding {
		t.Helper()
		cmd := w.program("/", args[0], append(args[1:], "sh", "-c", "mount --bind "+release+" /proc/sys/kernel/osrelease && exec localport doctor --json")...)
		return w.parseFindings(w.run(cmd))
	}
	w.writeFile(w.home, "osrelease", "4.4.0-19041-Microsoft\n")
	found := diagnose()["network"]
	if len(found) != 1 || found[0].Status != doctor.Fail || !strings.Contains(found[0].Text, "WSL 1") || found[0].Fix != "in PowerShell: wsl --set-version Debian 2" {
		t.Fatalf("got %+v", found)
	}
	w.writeFile(w.home, "osrelease", "5.15.153.1-microsoft-standard-WSL2\n")
	if found := diagnose()["network"]; len(found) > 0 {
		t.Errorf("in WSL 2: %+v", found)
	}
}
