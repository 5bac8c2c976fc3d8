package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/daemon"
)

// Image is the name of an image. No image is pulled: each is made from programs of this machine. The tags are not "latest", because
// Kubernetes would ask a registry for that each time.
type Image string

const (
	// Echo runs the program in the directory echo. Every cluster has it.
	Echo Image = "localhost/echo:test"
	// Pause does nothing. Its container keeps the namespaces of a pod. Every cluster has it.
	Pause Image = "localhost/pause:test"
	// Redis is Debian's redis-server. Without arguments it listens on all addresses, port 6379.
	Redis Image = "localhost/redis:test"
	// Postgres is Debian's PostgreSQL with an empty database and the superuser "postgres", who needs no password. It listens on all
	// addresses, port 5432. Its arguments are the server's.
	Postgres Image = "localhost/postgres:test"
)

// EnsureImage makes an image unless the cluster has it, and returns it. It skips the test if the machine does not have the programs of
// the image, or if the kubelet is a stand-in, which runs only Echo.
func (c *Cluster) EnsureImage(tb testing.TB, image Image) Image {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if image == Echo || image == Pause || c.loadedImages[image] {
		return image
	}
	if c.Containerd == nil {
		tb.Skipf("%s needs containers: %s", image, c.standinReason)
	}
	var a *imageArchive
	var err error
	switch image {
	case Redis:
		a, err = redisImage(tb)
	case Postgres:
		a, err = postgresImage(tb)
	default:
		tb.Fatalf("there is no image %s", image)
	}
	if err == nil {
		err = c.importImages(tb.Context(), a)
	}
	if err != nil {
		tb.Fatalf("image %s: %v", image, err)
	}
	c.loadedImages[image] = true
	return image
}

// importImages imports the images of an archive into containerd.
func (c *Cluster) importImages(ctx context.Context, a *imageArchive) error {
	path := c.path("image.tar")
	if err := a.write(path); err != nil {
		return err
	}
	defer os.Remove(path)
	return c.runCtr(ctx, "images", "import", path)
}

// buildEcho compiles the program of Echo.
func (c *Cluster) buildEcho(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", c.path("echo"), "./echo")
	build.Dir, build.Env = sourceDir(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// importBaseImages makes and imports Echo and Pause.
func (c *Cluster) importBaseImages(ctx context.Context) error {
	a := newImageArchive()
	if err := a.addFiles("/echo", c.path("echo")); err != nil {
		return err
	}
	if err := a.addImage(Echo, map[string]any{"Entrypoint": []string{"/echo"}}); err != nil {
		return err
	}
	if err := a.addImage(Pause, map[string]any{"Entrypoint": []string{"/echo", "pause"}}); err != nil {
		return err
	}
	return c.importImages(ctx, a)
}

func redisImage(tb testing.TB) (*imageArchive, error) {
	tb.Helper()
	program := daemon.FindProgram(tb, "redis-server", "redis-server")
	a := newImageArchive()
	for _, program := range []string{program, daemon.FindProgram(tb, "redis-cli", "redis-tools")} {
		if err := addProgram(a, program); err != nil {
			return nil, err
		}
	}
	return a, a.addImage(Redis, map[string]any{
		"Env":        []string{"PATH=" + filepath.Dir(program)},
		"Entrypoint": []string{program},
		"Cmd":        []string{"--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""},
	})
}

// postgresScript is the entry point of Postgres.
const postgresScript = `set -e
cd /tmp
initdb --pgdata=data --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync >/dev/null
echo host all all all trust >>data/pg_hba.conf
exec postgres -D data -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off "$@"
`

func postgresImage(tb testing.TB) (*imageArchive, error) {
	tb.Helper()
	bin := filepath.Dir(daemon.FindProgram(tb, "postgres", "postgresql", "/usr/lib/postgresql/*/bin"))
	version := filepath.Base(filepath.Dir(bin))
	a := newImageArchive()
	for _, program := range []string{
		"/bin/sh", filepath.Join(bin, "postgres"), filepath.Join(bin, "initdb"), filepath.Join(bin, "pg_isready"),
	} {
		if err := addProgram(a, program); err != nil {
			return nil, err
		}
	}
	// The files that initdb reads, the libraries that they name, and the users, of whom the container runs as one.
	needed := []string{"/usr/share/postgresql/" + version, "/etc/passwd"}
	for _, library := range []string{"plpgsql", "dict_snowball", "*_and_*", "utf8*"} {
		found, err := filepath.Glob(filepath.Join(filepath.Dir(bin), "lib", library+".so"))
		if err != nil {
			return nil, err
		}
		needed = append(needed, found...)
	}
	for _, path := range needed {
		if err := a.addFiles(path, path); err != nil {
			return nil, err
		}
	}
	if err := a.addDirectory("/tmp"); err != nil {
		return nil, err
	}
	return a, a.addImage(Postgres, map[string]any{
		"Env":        []string{"PATH=" + bin + ":/bin", "TZ=UTC"},
		"User":       "65534:65534",
		"Entrypoint": []string{"/bin/sh", "-c", postgresScript, "postgres"},
	})
}

// addProgram adds a program and the libraries that it is linked with, under the paths that they have on this machine.
func addProgram(a *imageArchive, program string) error {
	linked, err := exec.Command("ldd", program).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", program, err)
	}
	if err := a.addFiles(program, program); err != nil {
		return err
	}
	for word := range strings.FieldsSeq(string(linked)) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		if err := a.addFiles(word, word); err != nil {
			return err
		}
	}
	return nil
}
