package supervisor

import "os"

func closeFiles(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// fileSource returns copies of files, for the caller to close.
type fileSource func() ([]*os.File, error)
