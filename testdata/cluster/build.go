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

// kubernetesPrograms are compiled. The module in binaries pins their version.
var kubernetesPrograms = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}

// debianFiles are the files that are extracted from Debian's packages, by package. The packages are not installed.
var debianFiles = map[string][]string{
	"etcd-server":                 {"usr/bin/etcd"},
	"containerd":                  {"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr"},
	"runc":                        {"usr/sbin/runc"},
	"libseccomp2":                 {"usr/lib/*/libseccomp.so.2"},
	"containernetworking-plugins": {"usr/lib/cni/loopback"},
}

// Build makes the directory of CacheDir unless it exists, and prints each command to log. It compiles for some minutes.
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
	temp, err := os.MkdirTemp(filepath.Dir(cache), "kubernetes-*.part")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	b := builder{ctx, log, temp}
	if err := b.unpackDebian(); err != nil {
		return err
	}
	if err := b.compileKubernetes(); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil { // so that other users can run the programs
		return err
	}
	return os.Rename(temp, cache)
}

// builder makes the files of the cache.
type builder struct {
	ctx context.Context
	log io.Writer
	dir string
}

// unpackDebian downloads Debian's packages and extracts debianFiles.
func (b builder) unpackDebian() error {
	dir := filepath.Join(b.dir, "debian")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, files := range debianFiles {
		if err := b.download(dir, name); err != nil {
			return err
		}
		found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("apt-get download %s: got %q, not one package", name, found)
		}
		if err := b.run(dir, nil, "dpkg-deb", "--extract", found[0], name); err != nil {
			return err
		}
		for _, file := range files {
			if err := b.moveFile(filepath.Join(dir, name, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// download downloads a package into a directory.
func (b builder) download(dir, name string) error {
	// Run by root, apt downloads as a user of its own, who cannot write to this directory.
	argv := []string{"apt-get", "download", "--option=APT::Sandbox::User=", name}
	if b.run(dir, nil, argv...) == nil {
		return nil
	}
	if err := b.run(dir, nil, "apt-get", "update"); err != nil { // the machine's package lists may be old or missing
		return err
	}
	return b.run(dir, nil, argv...)
}

// moveFile moves the one file that a pattern matches into the cache.
func (b builder) moveFile(pattern string) error {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%s matches %q, not one file", pattern, found)
	}
	path, err := filepath.EvalSymlinks(found[0]) // a library is a symbolic link to a file with its version
	if err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(b.dir, filepath.Base(pattern)))
}

// compileKubernetes compiles Kubernetes' programs, with their version in them, and the stand-in for the kubelet.
func (b builder) compileKubernetes() error {
	module := filepath.Join(sourceDir(), "binaries")
	list := exec.CommandContext(b.ctx, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	list.Dir, list.Stderr = module, b.log
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list -m k8s.io/kubernetes: %w", err)
	}
	version := strings.TrimSpace(string(out))
	numbers := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(numbers) < 2 {
		return fmt.Errorf("k8s.io/kubernetes has version %q, which has no minor version", version)
	}
	flags := []string{"-s", "-w"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags, "-X", pkg+".gitVersion="+version, "-X", pkg+".gitMajor="+numbers[0], "-X", pkg+".gitMinor="+numbers[1])
	}
	argv := []string{"go", "build", "-trimpath", "-ldflags", strings.Join(flags, " "), "-o", b.dir + "/"}
	for _, name := range kubernetesPrograms {
		argv = append(argv, "k8s.io/kubernetes/cmd/"+name)
	}
	argv = append(argv, "./standin")
	return b.run(module, []string{"CGO_ENABLED=0"}, argv...)
}

// run runs a command in a directory, with variables added to this process's environment.
func (b builder) run(dir string, env []string, argv ...string) error {
	fmt.Fprintf(b.log, "cluster: %s\n", strings.Join(argv, " "))
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}
