package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// CheckAvailable returns why no cluster can be run, nil if one can.
func CheckAvailable() error {
	if runtime.GOOS != "linux" {
		return errors.New("a cluster needs Linux")
	}
	programs, err := CacheDir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(programs); err != nil {
		return errors.New("no cluster is built: run `just cluster-build`")
	}
	return requirePrograms(map[string]string{"kubectl": "none; .ci/kubectl builds it", "find": "findutils"})
}

// checkContainersAvailable returns why no containers can be run, nil if they can. In most containers, for example, even root cannot make
// namespaces, mounts or control groups.
func checkContainersAvailable() error {
	if os.Getenv("LOCALPORT_TEST_KUBELET") == "standin" {
		return errors.New("LOCALPORT_TEST_KUBELET is standin")
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can run containers")
	}
	if err := requirePrograms(map[string]string{"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount"}); err != nil {
		return err
	}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("no namespaces can be made: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := checkControlGroups(); err != nil {
		return fmt.Errorf("no control groups can be made: %w", err)
	}
	return nil
}

// requirePrograms returns an error that names the first program that is missing, and Debian's package that has it. The map's keys are
// programs, its values packages.
func requirePrograms(programs map[string]string) error {
	for program, debianPackage := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing (Debian: %s)", program, debianPackage)
		}
	}
	return nil
}
