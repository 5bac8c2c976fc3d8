package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// importPod builds the program of pods and brings its image in. The program is also the plugin of the pods' network.
func (c *Cluster) importPod(ctx context.Context) error {
	program := filepath.Join(c.Dir, "pod")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", program, "./pod")
	build.Dir, build.Env = here(), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the pods' program: %w\n%s", err, out)
	}
	plugins := filepath.Join(c.Dir, "plugins")
	for name, target := range map[string]string{"pod": program, "loopback": filepath.Join(c.bin, "loopback")} {
		if err := os.Symlink(target, filepath.Join(dir(plugins), name)); err != nil {
			return err
		}
	}
	return c.load(ctx, podImage, map[string]string{"/pod": program}, []string{"/pod"})
}

// Redis brings in an image of Debian's Redis, and returns its name. Its entrypoint takes redis-server's arguments.
func (c *Cluster) Redis(t testing.TB) string {
	t.Helper()
	const name = "localhost/redis:test"
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip(err)
	}
	files := map[string]string{program: program}
	libraries, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(libraries)) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				files[word] = word
			}
		}
	}
	if err := c.load(t.Context(), name, files, []string{program}); err != nil {
		t.Fatal(err)
	}
	return name
}

// load makes an image of files and brings it in. https://github.com/opencontainers/image-spec/blob/v1.0/image-layout.md
func (c *Cluster) load(ctx context.Context, name string, files map[string]string, entrypoint []string) error {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for to, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := addFile(w, strings.TrimPrefix(to, "/"), data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	blobs := map[string][]byte{}
	blob := func(kind string, data []byte) map[string]any {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
		blobs["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")] = data
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": digest, "size": len(data)}
	}
	content := blob("layer.v1.tar", layer.Bytes())
	config := blob("config.v1+json", encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": entrypoint},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{content["digest"]}},
	}))
	manifest := blob("manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{content},
	}))
	manifest["annotations"] = map[string]string{"io.containerd.image.name": name}
	blobs["index.json"] = encode(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	blobs["oci-layout"] = encode(map[string]any{"imageLayoutVersion": "1.0.0"})

	path := filepath.Join(c.Dir, "image.tar")
	var image bytes.Buffer
	w = tar.NewWriter(&image)
	for name, data := range blobs {
		if err := addFile(w, name, data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(path, image.Bytes(), 0o644); err != nil {
		return err
	}
	defer os.Remove(path)
	return c.ctr(ctx, "images", "import", path)
}

func addFile(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func encode(v any) []byte {
	data, _ := json.Marshal(v) // of maps, lists and strings
	return data
}
