package cluster

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// cacheFormat is changed when Build makes something else from the same sources.
const cacheFormat = "2"

// CacheDir returns the path of the directory that Build makes. It contains a checksum of everything in the directory binaries.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, cacheFormat, runtime.GOARCH)
	sources := os.DirFS(filepath.Join(sourceDir(), "binaries"))
	err = fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(sources, path)
		fmt.Fprintln(sum, path, len(content))
		sum.Write(content)
		return err
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "localport-test", fmt.Sprintf("kubernetes-%x", sum.Sum(nil)[:6])), nil
}

// sourceDir returns this package's directory.
func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}
