package cluster

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// packaging changes when what Build makes of the same sources does.
const packaging = "2"

// CacheDir is the path of the directory that Build makes. It changes with what is built: all that is in binaries.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, packaging, runtime.GOARCH)
	sources := os.DirFS(filepath.Join(here(), "binaries"))
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

// here is this package's directory.
func here() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}
