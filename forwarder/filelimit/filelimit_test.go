package filelimit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/localport-sh/localport/project"
)

// printLimitVariable makes the test binary print Current.
const printLimitVariable = "LOCALPORT_TEST_LIMIT"

func TestMain(m *testing.M) {
	if os.Getenv(printLimitVariable) != "" {
		fmt.Println(Current())
		return
	}
	if os.Getenv(checkFreeVariable) != "" {
		printFree()
		return
	}
	goleak.VerifyTestMain(m)
}

func newServices(n int) []project.Service {
	all := make([]project.Service, n)
	for i := range all {
		all[i] = project.Service{Name: fmt.Sprint("s", i), LocalPort: 1000 + i}
	}
	return all
}

func TestReserve_GrowsWithServicesAndShells(t *testing.T) {
	for name, c := range map[string]struct {
		services []project.Service
		shells   int
		want     int
	}{
		"no service":        {nil, 0, 123},
		"one service":       {newServices(1), 0, 123 + 10 + 2},
		"a reverse service": {[]project.Service{{Reverse: true}}, 0, 123 + 6 + 2},
		"ten services":      {newServices(10), 0, 123 + 10*10 + 8*2},
		"some shells":       {newServices(1), 16, 123 + 10 + 2},
		"many shells":       {newServices(1), 100, 123 + 10 + 2 + 84},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Reserve(c.services, c.shells); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestCheck_RejectsLimitBelowNeeded(t *testing.T) {
	for _, c := range []struct {
		limit, services, needed, suggested int
	}{
		{64, 1, 137, 1024},
		{136, 1, 137, 1024},
		{137, 1, 0, 0},
		{250, 10, 259, 1024},
		{1024, 74, 1027, 2048},
		{1024, 73, 0, 0},
		{1024, 100, 1339, 2048},
	} {
		err := Check(c.limit, newServices(c.services))
		var tooLow *TooLowError
		switch {
		case c.needed == 0 && err == nil:
		case c.needed == 0 || !errors.As(err, &tooLow):
			t.Errorf("%d files, %d services: got %v", c.limit, c.services, err)
		default:
			want := fmt.Sprintf(`too few file descriptors: limit is %d, at least %d are needed: raise it with "ulimit -n %d"`,
				c.limit, c.needed, c.suggested)
			if err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
		}
	}
}

// currentUnder returns Current of a process that is started after a ulimit command.
func currentUnder(t *testing.T, ulimit string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", ulimit+` && exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), printLimitVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestCurrent_ReturnsHardLimit(t *testing.T) {
	if got := currentUnder(t, "ulimit -Sn 200 && ulimit -Hn 512"); got != "511" { // the Go runtime raises the limit to the hard limit less one
		t.Errorf("got %s", got)
	}
	if got := currentUnder(t, "ulimit -n 200"); got != "200" {
		t.Errorf("got %s", got)
	}
}

// checkFreeVariable makes the test binary print HasFree for some numbers, with 40 descriptors open and a limit of 64.
const checkFreeVariable = "LOCALPORT_TEST_FREE_FILES"

func printFree() {
	for len(openFiles) < 40 {
		file, err := os.Open(os.DevNull)
		if err != nil {
			panic(err)
		}
		openFiles = append(openFiles, file)
	}
	fmt.Println(HasFree(1), HasFree(12), HasFree(30), HasFree(64), HasFree(65))
}

var openFiles []*os.File

func TestHasFree_ComparesWithTheLimit(t *testing.T) {
	cmd := exec.Command("sh", "-c", `ulimit -n 64 && exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), checkFreeVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != "true true false false false" {
		t.Errorf("got %s", got)
	}
}

func TestHasFree_DoesNotGrowTheDescriptorTable(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // the table's size is read from /proc
	}
	if !HasFree(12) {
		t.Errorf("12 of %d are not free", Current())
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "FDSize: %d", &size)
	}
	if size == 0 || size > 1024 {
		t.Errorf("the table has %d entries", size)
	}
}

func TestCountOpenDescriptors_BothWaysAgree(t *testing.T) {
	path := "/dev/fd"
	if runtime.GOOS == "linux" {
		path = "/proc/self/fd"
	}
	counted, err := countOpenDescriptors()
	listed, listErr := countListedDescriptors(path)
	if err != nil || listErr != nil || counted != listed {
		t.Errorf("%d, %v; %d entries, %v", counted, err, listed, listErr)
	}
}
