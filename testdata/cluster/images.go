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

// Image is the name of an image. None can be pulled: these are made of what is on the machine. Their tags are not
// "latest", for which Kubernetes would ask a registry each time.
type Image string

const (
	// Echo runs the program in echo; it is there from the start.
	Echo Image = "localhost/echo:test"
	// Pause does nothing; it is what holds a pod's namespaces.
	Pause Image = "localhost/pause:test"
	// Redis is Debian's redis-server, and listens everywhere on 6379 if it gets no arguments.
	Redis Image = "localhost/redis:test"
	// Postgres is Debian's PostgreSQL with an empty database of the superuser "postgres", whom it believes. It listens
	// everywhere on 5432, and its arguments are the server's.
	Postgres Image = "localhost/postgres:test"
)

// Image makes an image be there, and returns it. The test is skipped if what it is made of is not on the machine, or if
// the kubelet is a stand-in, which runs only Echo.
func (c *Cluster) Image(tb testing.TB, image Image) Image {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if image == Echo || image == Pause || c.images[image] {
		return image
	}
	if c.Containerd == nil {
		tb.Skipf("%s needs containers: %s", image, c.standin)
	}
	var a *archive
	var err error
	switch image {
	case Redis:
		a, err = redisImage(tb)
	case Postgres:
		a, err = postgresImage(tb)
	default:
		tb.Fatalf("nobody can make %s", image)
	}
	if err == nil {
		err = c.load(tb.Context(), a)
	}
	if err != nil {
		tb.Fatalf("image %s: %v", image, err)
	}
	c.images[image] = true
	return image
}

// load brings an archive's images in.
func (c *Cluster) load(ctx context.Context, a *archive) error {
	path := c.path("image.tar")
	if err := a.write(path); err != nil {
		return err
	}
	defer os.Remove(path)
	return c.ctr(ctx, "images", "import", path)
}

// buildEcho builds the program of Echo.
func (c *Cluster) buildEcho(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", c.path("echo"), "./echo")
	build.Dir, build.Env = here(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// loadEcho brings the images in that are there from the start.
func (c *Cluster) loadEcho(ctx context.Context) error {
	a := newArchive()
	if err := a.add("/echo", c.path("echo")); err != nil {
		return err
	}
	if err := a.image(Echo, map[string]any{"Entrypoint": []string{"/echo"}}); err != nil {
		return err
	}
	if err := a.image(Pause, map[string]any{"Entrypoint": []string{"/echo", "pause"}}); err != nil {
		return err
	}
	return c.load(ctx, a)
}

func redisImage(tb testing.TB) (*archive, error) {
	tb.Helper()
	program := daemon.FindProgram(tb, "redis-server", "redis-server")
	a := newArchive()
	for _, program := range []string{program, daemon.FindProgram(tb, "redis-cli", "redis-tools")} {
		if err := addProgram(a, program); err != nil {
			return nil, err
		}
	}
	return a, a.image(Redis, map[string]any{
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

func postgresImage(tb testing.TB) (*archive, error) {
	tb.Helper()
	bin := filepath.Dir(daemon.FindProgram(tb, "postgres", "postgresql", "/usr/lib/postgresql/*/bin"))
	version := filepath.Base(filepath.Dir(bin))
	a := newArchive()
	for _, program := range []string{
		"/bin/sh", filepath.Join(bin, "postgres"), filepath.Join(bin, "initdb"), filepath.Join(bin, "pg_isready"),
	} {
		if err := addProgram(a, program); err != nil {
			return nil, err
		}
	}
	// What initdb fills a database with, the libraries that that names, and the user whom the container runs as.
	needed := []string{"/usr/share/postgresql/" + version, "/etc/passwd"}
	for _, library := range []string{"plpgsql", "dict_snowball", "*_and_*", "utf8*"} {
		found, err := filepath.Glob(filepath.Join(filepath.Dir(bin), "lib", library+".so"))
		if err != nil {
			return nil, err
		}
		needed = append(needed, found...)
	}
	for _, path := range needed {
		if err := a.add(path, path); err != nil {
			return nil, err
		}
	}
	if err := a.directory("/tmp"); err != nil {
		return nil, err
	}
	return a, a.image(Postgres, map[string]any{
		"Env":        []string{"PATH=" + bin + ":/bin", "TZ=UTC"},
		"User":       "65534:65534",
		"Entrypoint": []string{"/bin/sh", "-c", postgresScript, "postgres"},
	})
}

// addProgram adds a program and the libraries that it is linked with, all where they are on the machine.
func addProgram(a *archive, program string) error {
	linked, err := exec.Command("ldd", program).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", program, err)
	}
	if err := a.add(program, program); err != nil {
		return err
	}
	for word := range strings.FieldsSeq(string(linked)) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		if err := a.add(word, word); err != nil {
			return err
		}
	}
	return nil
}
