package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// archive is an image layout in a tar: one layer, and any number of images of it.
// https://github.com/opencontainers/image-spec/blob/v1.0.2/image-layout.md
type archive struct {
	layer     bytes.Buffer
	tar       *tar.Writer // of the layer
	has       map[string]bool
	blobs     map[string][]byte
	manifests []descriptor
}

type descriptor map[string]any

func newArchive() *archive {
	a := &archive{has: map[string]bool{}, blobs: map[string][]byte{}}
	a.tar = tar.NewWriter(&a.layer)
	return a
}

// add adds a file, or all that is in a directory, under a path, unless that is there. Links are followed.
func (a *archive) add(to, from string) error {
	return filepath.WalkDir(from, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			return err
		}
		name := filepath.Join(to, strings.TrimPrefix(path, from))
		if a.has[name] {
			return nil
		}
		a.has[name] = true
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return put(a.tar, name, info.Mode().Perm(), content)
	})
}

// directory adds an empty directory that everybody may write to.
func (a *archive) directory(path string) error {
	return a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path[1:] + "/", Mode: 0o1777})
}

// image is an image of all that has been added.
func (a *archive) image(name Image, config map[string]any) error {
	if err := a.tar.Close(); err != nil {
		return err
	}
	layer := a.blob("layer.v1.tar", a.layer.Bytes())
	text, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
	})
	if err != nil {
		return err
	}
	text, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": a.blob("config.v1+json", text), "layers": []any{layer},
	})
	if err != nil {
		return err
	}
	manifest := a.blob("manifest.v1+json", text)
	manifest["annotations"] = map[string]any{"io.containerd.image.name": name}
	a.manifests = append(a.manifests, manifest)
	return nil
}

// blob keeps content under its sum.
func (a *archive) blob(kind string, content []byte) descriptor {
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	a.blobs[sum] = content
	return descriptor{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum, "size": len(content)}
}

// write writes the archive.
func (a *archive) write(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": a.manifests})
	if err != nil {
		return err
	}
	w := tar.NewWriter(file)
	if err := put(w, "oci-layout", 0o644, []byte(`{"imageLayoutVersion": "1.0.0"}`)); err != nil {
		return err
	}
	if err := put(w, "index.json", 0o644, index); err != nil {
		return err
	}
	for _, sum := range slices.Sorted(maps.Keys(a.blobs)) {
		if err := put(w, "blobs/sha256/"+sum, 0o644, a.blobs[sum]); err != nil {
			return err
		}
	}
	return w.Close()
}

func put(w *tar.Writer, name string, mode fs.FileMode, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: int64(mode), Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
