package cluster

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// packaging changes when what Build makes of the same sources does.
const packaging = "2"

// Cache is the path of the directory that Build makes. It changes with what is built.
func Cache() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, packaging, runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(here(), "binaries", name))
		if err != nil {
			return "", err
		}
		sum.Write(content)
	}
	return filepath.Join(base, "localport-test", fmt.Sprintf("kubernetes-%x", sum.Sum(nil)[:6])), nil
}

// here is this package's directory.
func here() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Possible says why no cluster can be run, nil if one can.
func Possible() error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return errors.New("a cluster needs Linux and root")
	}
	programs, err := Cache()
	if err != nil {
		return err
	}
	if _, err := os.Stat(programs); err != nil {
		return errors.New("no cluster is built: just cluster-build")
	}
	for _, need := range []struct{ program, debian string }{
		{"kubectl", "none; .ci/kubectl builds it"}, {"unshare", "util-linux"}, {"nsenter", "util-linux"}, {"mount", "mount"}, {"find", "findutils"},
	} {
		if _, err := exec.LookPath(need.program); err != nil {
			return fmt.Errorf("%s is missing (Debian: %s)", need.program, need.debian)
		}
	}
	return runnable()
}

// runnable says why no containers can be run here, as in most containers: root may not make namespaces and mounts there,
// or control groups.
func runnable() error {
	if out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("no containers can be run: %w: %s", err, bytes.TrimSpace(out))
	}
	trial := groupsCalled(fmt.Sprintf("lpk-trial-%d", os.Getpid()))
	err := trial.create()
	trial.remove()
	if err != nil {
		return fmt.Errorf("no containers can be run: %w", err)
	}
	return nil
}
