package executable_test

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/testdata/executable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWriteFile_ProgramsCanBeRunWhileOthersAreStarted(t *testing.T) {
	dir := t.TempDir()
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for n := range 40 {
				path := filepath.Join(dir, strconv.Itoa(i)+"-"+strconv.Itoa(n))
				err := executable.WriteFile(path, []byte("#!/bin/true\n"), 0o700)
				if err == nil {
					err = exec.Command(path).Run()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
}
