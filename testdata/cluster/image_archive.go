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

// imageArchive is an OCI image layout: one layer, and any number of images that consist of it.
// https://github.com/opencontainers/image-spec/blob/v1.0.2/image-layout.md
type imageArchive struct {
	layer       bytes.Buffer
	layerWriter *tar.Writer // of the layer
	layerPaths  map[string]bool
	blobs       map[string][]byte
	manifests   []descriptor
}

// descriptor is an OCI content descriptor: the media type, digest and size of a blob.
type descriptor map[string]any

func newImageArchive() *imageArchive {
	a := &imageArchive{layerPaths: map[string]bool{}, blobs: map[string][]byte{}}
	a.layerWriter = tar.NewWriter(&a.layer)
	return a
}

// addFiles adds a file, or all files of a directory, to the layer under a path. A path that the layer has already is skipped. Symbolic links
// are followed.
func (a *imageArchive) addFiles(to, from string) error {
	return filepath.WalkDir(from, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			return err
		}
		name := filepath.Join(to, strings.TrimPrefix(path, from))
		if a.layerPaths[name] {
			return nil
		}
		a.layerPaths[name] = true
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return writeEntry(a.layerWriter, name, info.Mode().Perm(), content)
	})
}

// addDirectory adds an empty directory, in which everybody may create files, to the layer.
func (a *imageArchive) addDirectory(path string) error {
	return a.layerWriter.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path[1:] + "/", Mode: 0o1777})
}

// addImage adds an image that consists of the layer. After the first image no more files can be added.
func (a *imageArchive) addImage(name Image, config map[string]any) error {
	if err := a.layerWriter.Close(); err != nil {
		return err
	}
	layer := a.addBlob("layer.v1.tar", a.layer.Bytes())
	text, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
	})
	if err != nil {
		return err
	}
	text, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": a.addBlob("config.v1+json", text), "layers": []any{layer},
	})
	if err != nil {
		return err
	}
	manifest := a.addBlob("manifest.v1+json", text)
	manifest["annotations"] = map[string]any{"io.containerd.image.name": name}
	a.manifests = append(a.manifests, manifest)
	return nil
}

// addBlob adds a blob and returns its descriptor.
func (a *imageArchive) addBlob(kind string, content []byte) descriptor {
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	a.blobs[sum] = content
	return descriptor{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum, "size": len(content)}
}

// write writes the archive to a tar file.
func (a *imageArchive) write(path string) error {
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
	if err := writeEntry(w, "oci-layout", 0o644, []byte(`{"imageLayoutVersion": "1.0.0"}`)); err != nil {
		return err
	}
	if err := writeEntry(w, "index.json", 0o644, index); err != nil {
		return err
	}
	for _, sum := range slices.Sorted(maps.Keys(a.blobs)) {
		if err := writeEntry(w, "blobs/sha256/"+sum, 0o644, a.blobs[sum]); err != nil {
			return err
		}
	}
	return w.Close()
}

// writeEntry writes a file to a tar archive.
func writeEntry(w *tar.Writer, name string, mode fs.FileMode, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: int64(mode), Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
