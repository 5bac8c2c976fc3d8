package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/eventlog"
	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// BenchmarkOutput reports the CPU time that the output of a program costs, for lines of several lengths, and its ratio to that of "cat >file" with the
// same input.
func BenchmarkOutput(b *testing.B) {
	const size = 100_000_000
	for _, length := range []int{1, 16, 98} {
		b.Run(fmt.Sprintf("lines of %d bytes", length), func(b *testing.B) {
			generate := fmt.Sprintf("yes '%s' | head -c %d", strings.Repeat("e", length-1)+"1", size)
			mask := func(text string) string { return project.Mask(text, []string{"hunter22", "correct horse"}) }
			var own, cat time.Duration
			for b.Loop() {
				log := eventlog.NewFile(filepath.Join(b.TempDir(), "db.log"), mask, eventlog.Limits{})
				tunnel := &tunnel{log: log.RunWriter("run.1")}
				before := ownCPU(b)
				program, err := process.Start(process.Command{Argv: []string{"sh", "-c", generate}, Env: os.Environ(), OnLines: tunnel.handleLines})
				if err != nil {
					b.Fatal(err)
				}
				<-program.Done()
				own += ownCPU(b) - before
				log.Close()
				cat += catCPU(b, generate)
			}
			b.ReportMetric(own.Seconds()/float64(b.N), "CPU-s/100MB")
			b.ReportMetric(cat.Seconds()/float64(b.N), "cat-CPU-s/100MB")
			b.ReportMetric(own.Seconds()/cat.Seconds(), "times-cat")
		})
	}
}

// ownCPU returns the CPU time of this process.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// catCPU returns the CPU time that cat needs to write the output of a script to a file.
func catCPU(b *testing.B, script string) time.Duration {
	b.Helper()
	generator := exec.CommandContext(b.Context(), "sh", "-c", script)
	output, err := generator.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	file, err := os.Create(filepath.Join(b.TempDir(), "output"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	cat := exec.CommandContext(b.Context(), "cat")
	cat.Stdin, cat.Stdout = output, file
	if err := generator.Start(); err != nil {
		b.Fatal(err)
	}
	if err := cat.Run(); err != nil {
		b.Fatal(err)
	}
	if err := generator.Wait(); err != nil {
		b.Fatal(err)
	}
	return cat.ProcessState.UserTime() + cat.ProcessState.SystemTime()
}
