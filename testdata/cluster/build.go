package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// kubernetes are the programs that are compiled. The module in binaries pins their version.
var kubernetes = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}

// debian are the files that are taken out of Debian's packages, of which none is installed.
var debian = map[string][]string{
	"etcd-server":                 {"usr/bin/etcd"},
	"containerd":                  {"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr"},
	"runc":                        {"usr/sbin/runc"},
	"libseccomp2":                 {"usr/lib/*/libseccomp.so.2"},
	"containernetworking-plugins": {"usr/lib/cni/loopback"},
}

// Build makes the cache unless it is there, and says on log what it does. It compiles for some minutes.
func Build(ctx context.Context, log io.Writer) error {
	cache, err := CacheDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cache), 0o755); err != nil {
		return err
	}
	lock := flock.New(cache + ".lock")
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	defer lock.Close()
	if _, err := os.Stat(cache); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(cache), "kubernetes-*.part")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	b := builder{ctx, log, part}
	if err := b.unpackDebian(); err != nil {
		return err
	}
	if err := b.compileKubernetes(); err != nil {
		return err
	}
	if err := os.Chmod(part, 0o755); err != nil { // an ordinary user may run it, too
		return err
	}
	return os.Rename(part, cache)
}

// builder makes the cache's content.
type builder struct {
	ctx context.Context
	log io.Writer
	to  string
}

// unpackDebian takes files out of Debian's packages.
func (b builder) unpackDebian() error {
	dir := filepath.Join(b.to, "debian")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, files := range debian {
		if err := b.download(dir, name); err != nil {
			return err
		}
		found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("apt-get download %s: made %q", name, found)
		}
		if err := b.run(dir, nil, "dpkg-deb", "--extract", found[0], name); err != nil {
			return err
		}
		for _, file := range files {
			if err := b.take(filepath.Join(dir, name, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// download fetches a package.
func (b builder) download(dir, name string) error {
	// As root apt fetches as a user of its own, who cannot write here, and complains of that.
	argv := []string{"apt-get", "download", "--option=APT::Sandbox::User=", name}
	if b.run(dir, nil, argv...) == nil {
		return nil
	}
	if err := b.run(dir, nil, "apt-get", "update"); err != nil { // a machine's lists may be old, or not there
		return err
	}
	return b.run(dir, nil, argv...)
}

// take moves the file that a pattern fits.
func (b builder) take(pattern string) error {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%s: found %q", pattern, found)
	}
	path, err := filepath.EvalSymlinks(found[0]) // a library is a link to its version
	if err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(b.to, filepath.Base(pattern)))
}

// compileKubernetes compiles Kubernetes' programs, which are told the version that they are, and the stand-in for one.
func (b builder) compileKubernetes() error {
	module := filepath.Join(here(), "binaries")
	list := exec.CommandContext(b.ctx, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	list.Dir, list.Stderr = module, b.log
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list -m k8s.io/kubernetes: %w", err)
	}
	version := strings.TrimSpace(string(out))
	numbers := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(numbers) < 2 {
		return fmt.Errorf("k8s.io/kubernetes is of version %q", version)
	}
	flags := []string{"-s", "-w"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags, "-X", pkg+".gitVersion="+version, "-X", pkg+".gitMajor="+numbers[0], "-X", pkg+".gitMinor="+numbers[1])
	}
	argv := []string{"go", "build", "-trimpath", "-ldflags", strings.Join(flags, " "), "-o", b.to + "/"}
	for _, name := range kubernetes {
		argv = append(argv, "k8s.io/kubernetes/cmd/"+name)
	}
	argv = append(argv, "./standin")
	return b.run(module, []string{"CGO_ENABLED=0"}, argv...)
}

func (b builder) run(dir string, env []string, argv ...string) error {
	fmt.Fprintf(b.log, "cluster: %s\n", strings.Join(argv, " "))
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}
