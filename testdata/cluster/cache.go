package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/gofrs/flock"
)

// packaging changes when what is built from the same sources does.
const packaging = "1"

// kubernetes are the programs that are built from the module in binaries, whose go.mod pins the version.
var kubernetes = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}

// packages are Debian's, of which the files are taken; nothing is installed.
var packages = map[string][]string{
	"etcd-server":                 {"usr/bin/etcd"},
	"containerd":                  {"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr"},
	"runc":                        {"usr/sbin/runc"},
	"containernetworking-plugins": {"usr/lib/cni/loopback"},
	"libseccomp2":                 {"usr/lib/*/libseccomp.so.2"},
}

// here is this package's directory.
func here() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Cache is the directory of the programs. That they are there is Possible's to say.
func Cache() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, packaging, runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(here(), "binaries", name))
		if err != nil {
			return "", err
		}
		sum.Write(data)
	}
	return filepath.Join(base, "localport-test", fmt.Sprintf("kubernetes-%x", sum.Sum(nil)[:6])), nil
}

// Possible says why no cluster can be run here, nil if one can.
func Possible() error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return errors.New("a cluster needs Linux and root")
	}
	bin, err := Cache()
	if err != nil {
		return err
	}
	if _, err := os.Stat(bin); err != nil {
		return errors.New("no cluster has been built: just cluster-build")
	}
	for _, tool := range []string{"unshare", "nsenter", "kubectl"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	return nil
}

// Build makes the cache unless it is there: some minutes of compiling.
func Build(ctx context.Context, log io.Writer) error {
	bin, err := Cache()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return err
	}
	lock := flock.New(bin + ".lock")
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(bin); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(bin), "building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	b := build{ctx, log, made}
	if err := errors.Join(b.debian(), b.kubernetes()); err != nil {
		return err
	}
	return os.Rename(made, bin)
}

type build struct {
	ctx context.Context
	log io.Writer
	dir string
}

func (b build) run(dir string, env []string, argv ...string) error {
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, b.log, b.log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %w", argv, err)
	}
	return nil
}

// debian takes files out of packages.
func (b build) debian() error {
	unpacked, err := os.MkdirTemp("", "packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unpacked)
	argv := []string{"apt-get", "download", "-o", "APT::Sandbox::User=root"}
	for name := range packages {
		argv = append(argv, name)
	}
	if err := b.run(unpacked, nil, argv...); err != nil {
		return err
	}
	files, _ := filepath.Glob(filepath.Join(unpacked, "*.deb"))
	for _, file := range files {
		if err := b.run(unpacked, nil, "dpkg-deb", "-x", file, "root"); err != nil {
			return err
		}
	}
	for name, paths := range packages {
		for _, path := range paths {
			found, _ := filepath.Glob(filepath.Join(unpacked, "root", path))
			if len(found) == 0 {
				return fmt.Errorf("package %s has no %s", name, path)
			}
			if err := b.run(unpacked, nil, "cp", "-L", found[0], filepath.Join(b.dir, filepath.Base(path))); err != nil {
				return err
			}
		}
	}
	return nil
}

// kubernetes compiles.
func (b build) kubernetes() error {
	module := filepath.Join(here(), "binaries")
	version, err := exec.CommandContext(b.ctx, "go", "-C", module, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return err
	}
	git := string(version[:len(version)-1])
	flags := "-s -w"
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags += fmt.Sprintf(" -X %s.gitVersion=%s", pkg, git)
	}
	argv := []string{"go", "build", "-trimpath", "-ldflags", flags, "-o", b.dir + "/"}
	for _, name := range kubernetes {
		argv = append(argv, "k8s.io/kubernetes/cmd/"+name)
	}
	return b.run(module, []string{"CGO_ENABLED=0"}, argv...)
}
